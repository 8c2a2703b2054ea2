//! Creating and starting a container as one job: it is there and runs, or there is none.

use tare_runtime::ContainerId;

use super::attach::AtStart;
use super::checkpoint::Filling;
use super::create::Draft;
use super::jobs::{Job, JobKind, Origin, Output, Produced};
use super::object::ObjectId;
use super::start::{Goal, StartedBy};
use super::{Engine, Error, Pending};
use crate::authority::Authorized;

impl Engine {
    /// Begins to create and start a container.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::NoCommand`]; [`Error::Host`] if there can be no job.
    pub fn run_container(&self, request: Authorized<Draft>) -> Result<Pending, Error> {
        let (draft, by) = request.into_parts();
        let draft = draft.ready()?;
        let (engine, caller) = (self.clone(), by.clone());
        self.pending(JobKind::RunContainer, None, Origin::Caller(&by), move |job| async move {
            let id = engine.create_for(draft, &caller, Filling::Nothing).await?;
            let goal = Goal::Run(AtStart::default());
            engine.start_or_take_back(&id, &job, goal).await?;
            Ok(Output(vec![("Container", Produced::Object(ObjectId::Container(id)))]))
        })
    }

    /// Starts a container that was made for that, or there is none.
    pub(super) async fn start_or_take_back(
        &self,
        id: &ContainerId,
        job: &Job,
        goal: Goal,
    ) -> Result<(), Error> {
        let started = match self.get(id) {
            Ok(made) => self.start_for(&made, job, StartedBy::Somebody, goal).await,
            Err(gone) => Err(gone),
        };
        if started.is_err()
            && let Err(worse) = self.take_back(id).await
        {
            job.log(3, worse.chain());
        }
        started
    }
}
