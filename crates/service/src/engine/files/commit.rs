//! Images made of containers.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tare_specgen::Effective;
use tare_storage::{
    Committed, Compression, Descriptor, Digest, MAX_MANIFEST, Manifest, RUNTIME_PATHS, Store,
};

use super::instruction::{Instruction, member, set_env};
use super::transfer;
use crate::authority::{Ask, Authorized, Caller, Question};
use crate::engine::blocking::unbounded;
use crate::engine::clock::Usec;
use crate::engine::images::transfer::JobWatch;
use crate::engine::images::{Image, created};
use crate::engine::jobs::{Job, JobKind, Origin, Output, Produced};
use crate::engine::object::ObjectId;
use crate::engine::{Engine, Error, Pause, Pending, Reference, key, view};

/// An image configuration larger than this is refused.
const MAX_CONFIG: usize = tare_specgen::MAX_IMAGE_CONFIG;

/// A container that an image is to be made of.
#[derive(Debug)]
pub struct Commit {
    /// Which.
    pub container: Arc<view::Container>,
    /// The name of the image; without one, it has none.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// What was done.
    pub message: String,
    /// What the image is to say in place of what the container says.
    pub changes: Vec<Instruction>,
    /// What the container does meanwhile.
    pub meanwhile: Meanwhile,
}

/// What a container does while what it wrote is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// What it does anyway.
    GoesOn,
    /// It stands still.
    StandsStill,
}

impl Ask for Commit {
    fn question(&self, by: &Caller) -> Question {
        let name = self.reference.as_ref().map_or("", |reference| reference.as_str());
        let mut question = transfer(&self.container, "make an image of").with("image", name);
        if self.meanwhile == Meanwhile::StandsStill {
            // It is as good as paused for as long as that takes.
            question.needs.extend(Pause { container: self.container.clone() }.question(by).needs);
        }
        question
    }
}

impl Engine {
    /// Begins to make an image of a container: its own layer over those of its image.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn commit(&self, request: Authorized<Commit>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        let engine = self.clone();
        let object = Some(ObjectId::Container(request.container.id.clone()));
        self.pending(JobKind::CommitContainer, object, Origin::Caller(&by), move |job| async move {
            let made = engine.commit_now(request, job).await;
            if made.is_err() {
                engine.tidy_up().await;
            }
            made
        })
    }

    async fn commit_now(&self, request: Commit, job: Arc<Job>) -> Result<Output, Error> {
        let container = self.container(&request.container.id)?;
        container.check_unchanged(&request.container)?;
        let (image, effective) = (self.image_of(&container.root)?, self.effective(&container)?);
        let still = match request.meanwhile {
            Meanwhile::GoesOn => None,
            Meanwhile::StandsStill => Some(self.stand_still(&container, &request.container).await?),
        };
        job.stage("packing");
        let (store, key, packing) = (self.store.clone(), key(&container.id), job.clone());
        // The hold is dropped when what it holds is written down, or is not wanted.
        let packed = unbounded("commit", move || {
            let hold = store.hold();
            let watch = JobWatch::new(&packing);
            let packed = store.pack_changes(&key, RUNTIME_PATHS, Compression::Gzip, &watch);
            Ok((packed.map_err(|error| failure(error, &packing))?, hold))
        })
        .await;
        // Whatever came of it.
        let moved = match &still {
            Some(still) => self.may_move(&container, still).await,
            None => Ok(()),
        };
        let (packed, hold) = packed?;
        moved?;
        // With all that it changed, then.
        container.check_kept()?;
        let (store, making) = (self.store.clone(), job.clone());
        let made = unbounded("commit", move || {
            make(&store, &image, &effective, &request, packed, &making)
        })
        .await?;
        job.point_of_no_return()?;
        job.stage("registering");
        // Without a manifest nobody knows the archive that the layer was made of.
        let has_more = made.manifest.is_none();
        let id = self.register_made(made).await?;
        drop(hold);
        if has_more {
            self.tidy_up().await;
        }
        Ok(Output(vec![("Image", Produced::Object(ObjectId::Image(id)))]))
    }
}

/// An image that was made here.
pub(in crate::engine) struct Made {
    pub(in crate::engine) config: Vec<u8>,
    /// Its manifest and the blobs of its layers, if all of those are here.
    pub(in crate::engine) manifest: Option<(Digest, Vec<Digest>)>,
    /// Its uppermost layer.
    pub(in crate::engine) layer: tare_storage::Layer,
    /// What it stands on.
    pub(in crate::engine) base: Arc<Image>,
    pub(in crate::engine) references: Vec<String>,
}

fn failure(error: tare_storage::Error, job: &Job) -> Error {
    if job.is_canceled() { Error::Canceled } else { Error::Storage(error) }
}

fn make(
    store: &Store,
    image: &Arc<Image>,
    effective: &Effective,
    request: &Commit,
    packed: (Descriptor, Digest),
    job: &Job,
) -> Result<Made, Error> {
    let watch = JobWatch::new(job);
    let committed = store.commit_packed(&image.layers, packed, &watch);
    let Committed { layer, blob, .. } = committed.map_err(|error| failure(error, job))?;
    let base = store.get_blob(&image.id, MAX_CONFIG)?;
    let config = config(&base, effective, request, &layer.diff_id, Usec::now())?;
    store.put_blob(&config)?;
    Ok(Made {
        manifest: manifest(store, image, &config, blob)?,
        config,
        layer,
        base: image.clone(),
        references: request.reference.iter().map(ToString::to_string).collect(),
    })
}

/// A manifest, if all layers below are here as they came.
fn manifest(
    store: &Store,
    image: &Image,
    config: &[u8],
    blob: Descriptor,
) -> Result<Option<(Digest, Vec<Digest>)>, Error> {
    let Some(below) = image.seen.get().digests.first().copied() else { return Ok(None) };
    let bytes = store.get_blob(&below, MAX_MANIFEST)?;
    let below = Manifest::parse(&bytes).map_err(|fault| Error::InvalidArchive(Box::new(fault)))?;
    let mut layers = below.layers;
    for layer in &layers {
        if !store.has_blob(&layer.digest)? {
            return Ok(None);
        }
    }
    layers.push(blob);
    let (_, manifest) = store.put_image(config, &layers)?;
    Ok(Some((manifest, layers.into_iter().map(|layer| layer.digest).collect())))
}

/// The configuration of the image below, with one layer more, and run as the container is.
fn config(
    base: &[u8],
    effective: &Effective,
    request: &Commit,
    layer: &Digest,
    now: Usec,
) -> Result<Vec<u8>, Error> {
    let invalid = |error| Error::InvalidArchive(Box::new(error));
    let mut config: Map<String, Value> = serde_json::from_slice(base).map_err(invalid)?;
    let now = created::format(now);
    config.insert("created".into(), json!(now));
    if !request.author.is_empty() {
        config.insert("author".into(), json!(request.author));
    }
    let run = member(&mut config, "config");
    run_as(run, effective);
    request.changes.iter().for_each(|change| change.apply(run));
    push(member(&mut config, "rootfs"), "diff_ids", json!(layer.to_string()));
    fill_history(&mut config);
    let mut entry = json!({"created": now, "created_by": "tare commit"});
    for (key, text) in [("author", &request.author), ("comment", &request.message)] {
        if !text.is_empty() {
            entry[key] = json!(text);
        }
    }
    push(&mut config, "history", entry);
    serde_json::to_vec(&config).map_err(invalid)
}

/// Each layer below has its entry from now on: they are told apart by their number.
fn fill_history(config: &mut Map<String, Value>) {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let layers = list(config.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids"))).len();
    let is_of_layer = |entry: &&Value| entry["empty_layer"] != json!(true);
    let known = list(config.get("history")).iter().filter(is_of_layer).count();
    for _ in known..layers.saturating_sub(1) {
        push(config, "history", json!({"created_by": "unknown"}));
    }
}

fn push(map: &mut Map<String, Value>, key: &str, value: Value) {
    match map.get_mut(key).and_then(Value::as_array_mut) {
        Some(list) => list.push(value),
        None => drop(map.insert(key.into(), json!([value]))),
    }
}

/// What was asked for when the container was made is what the image says from now on.
fn run_as(run: &mut Map<String, Value>, effective: &Effective) {
    let texts = |list: &[tare_specgen::Argument]| {
        json!(list.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let request = &effective.request;
    if let Some(entrypoint) = &request.entrypoint {
        run.insert("Entrypoint".into(), texts(entrypoint));
        // The image's command was made for another.
        run.insert("Cmd".into(), json!([]));
    }
    if !request.command.is_empty() {
        run.insert("Cmd".into(), texts(&request.command));
    }
    for entry in &request.env {
        if let Some((name, value)) = entry.as_str().split_once('=') {
            set_env(run, name, value);
        }
    }
    for (key, value) in &request.labels {
        member(run, "Labels").insert(key.to_string(), json!(value));
    }
    if let Some(user) = &request.user {
        run.insert("User".into(), json!(user.to_string()));
    }
    if let Some(dir) = &request.working_dir {
        run.insert("WorkingDir".into(), json!(dir.to_string()));
    }
    if let Some(signal) = &request.stop_signal {
        run.insert("StopSignal".into(), json!(signal.number().to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Interactive;
    use tare_specgen::{Foreign, ImageDefaults, Request, effective};

    #[test]
    fn each_layer_has_its_entry() {
        for (history, want) in [
            (json!(null), json!([{"created_by": "unknown"}, {"created_by": "unknown"}])),
            (
                json!([{"created_by": "a"}, {"empty_layer": true}]),
                json!([{"created_by": "a"}, {"empty_layer": true}, {"created_by": "unknown"}]),
            ),
        ] {
            let config = json!({"rootfs": {"diff_ids": ["1", "2", "3"]}, "history": history});
            let Value::Object(mut config) = config else { panic!() };
            fill_history(&mut config);
            assert_eq!(config["history"], want);
        }
    }

    #[test]
    fn one_for_which_it_stands_still_takes_what_a_pause_takes() {
        let container = crate::engine::container::Container::sample("c").view();
        let by = |uid| Caller { uid, bus_name: ":1.7".into(), interactive: Interactive::No };
        let needs = |meanwhile, uid| {
            let (author, message, changes) = (String::new(), String::new(), Vec::new());
            let container = container.clone();
            Commit { container, reference: None, author, message, changes, meanwhile }
                .question(&by(uid))
                .needs
        };
        for uid in [container.owner_uid, container.owner_uid + 1] {
            let pause = Pause { container: container.clone() }.question(&by(uid)).needs;
            let without = needs(Meanwhile::GoesOn, uid);
            assert_eq!(needs(Meanwhile::StandsStill, uid), [without, pause].concat(), "{uid}");
        }
    }

    #[test]
    fn an_image_runs_as_its_container_did() {
        let base = json!({
            "architecture": "amd64", "os": "linux", "extra": 7,
            "config": {"Cmd": ["old"], "Env": ["PATH=/bin", "A=1"], "Labels": {"k": "v"}},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:aa"]},
            "history": [{"created_by": "first"}],
        });
        let mut asked = Request::default();
        asked.command = vec!["new".parse().unwrap()];
        asked.env = vec!["A=2".parse().unwrap()];
        asked.user = Some("www".parse().unwrap());
        let bytes = serde_json::to_vec(&base).unwrap();
        let defaults = ImageDefaults::parse(&bytes).unwrap();
        let effective = effective(&asked, &defaults, &Foreign::default()).unwrap();
        let container = crate::engine::container::Container::sample("c");
        let request = Commit {
            container: container.view(),
            reference: None,
            author: "me".into(),
            message: "why".into(),
            changes: vec!["LABEL l=w".parse().unwrap()],
            meanwhile: Meanwhile::GoesOn,
        };
        let layer = Digest::of(b"layer");
        let made = config(&bytes, &effective, &request, &layer, Usec(1_709_251_199_123_456));
        let made: Value = serde_json::from_slice(&made.unwrap()).unwrap();
        let want = json!({
            "architecture": "amd64", "os": "linux", "extra": 7, "author": "me",
            "created": "2024-02-29T23:59:59.123456Z",
            "config": {"Cmd": ["new"], "Env": ["PATH=/bin", "A=2"], "User": "www",
                "Labels": {"k": "v", "l": "w"}},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:aa", layer.to_string()]},
            "history": [{"created_by": "first"}, {
                "created": "2024-02-29T23:59:59.123456Z", "created_by": "tare commit",
                "author": "me", "comment": "why",
            }],
        });
        assert_eq!(made, want);
    }
}
