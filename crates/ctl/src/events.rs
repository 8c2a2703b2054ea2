//! Showing what happens, and what has happened.

use std::collections::BTreeMap;
use std::process::ExitCode;

use futures_util::StreamExt;
use zbus::{Connection, Variant};

use crate::client::{ManagerProxy, Options, Row};
use crate::output::{number, say, text};
use crate::{Failure, Outcome};

/// How many are asked for at a time.
const AT_ONCE: u32 = 512;

/// Those after number `since`, and then, if wanted, what follows. That something has happened is only
/// told; what, is asked for, so that nothing is missed and nothing shown twice.
pub(crate) async fn show(bus: &Connection, since: Option<u64>, no_stream: bool) -> Outcome {
    let manager = ManagerProxy::new(bus).await?;
    let mut owners = manager.inner().receive_owner_changed().await?;
    let mut told = manager.receive_event().await?;
    if !no_stream {
        manager.subscribe(0).await?;
    }
    let mut last = match since {
        Some(since) => since,
        None => manager.list_containers(Options::from([("Limit", 0_u32.into())])).await?.1,
    };
    last = show_after(&manager, last).await?;
    if no_stream {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        tokio::select! {
            event = told.next() => match event {
                Some(event) if event.args()?.seqnum <= last => {}
                Some(_) => last = show_after(&manager, last).await?,
                None => return Err(Failure::Usage("the bus went away".into())),
            },
            Some(None) = owners.next() => {
                return Err(Failure::Usage("the service has ended".into()));
            }
        }
    }
}

/// The number of the last one shown.
async fn show_after(manager: &ManagerProxy<'_>, mut last: u64) -> Result<u64, Failure> {
    loop {
        let (next, events) = manager.get_events(last, AT_ONCE).await?;
        for event in &events {
            say(&line(event))?;
        }
        if events.is_empty() {
            return Ok(next);
        }
        last = next;
    }
}

fn line(event: &Row) -> String {
    let (seqnum, kind, action) =
        (number(event, "Seqnum"), text(event, "Type"), text(event, "Action"));
    let object = match event.get("Object").map(|value| &**value) {
        Some(Variant::ObjectPath(path)) => path.to_string(),
        _ => String::new(),
    };
    let attributes = attributes(event).into_iter().map(|(key, value)| format!("  {key}={value}"));
    format!("{seqnum}  {kind:<9}  {action:<7}  {object}{}", attributes.collect::<String>())
}

/// What else is said about it, sorted.
fn attributes(event: &Row) -> BTreeMap<String, String> {
    let Some(Variant::Dict(dict)) = event.get("Attributes").map(|value| &**value) else {
        return BTreeMap::new();
    };
    let pairs = dict.iter().filter_map(|(key, value)| {
        let Variant::Str(key) = key else { return None };
        Some((key.to_string(), shown(value)))
    });
    pairs.collect()
}

fn shown(value: &Variant<'_>) -> String {
    match value {
        Variant::Variant(inner) => shown(inner),
        Variant::Str(text) => text.to_string(),
        Variant::I32(number) => number.to_string(),
        other => other.to_string(),
    }
}
