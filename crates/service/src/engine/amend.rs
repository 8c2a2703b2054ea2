//! Changing what a container that lives is made of.
//!
//! Three writes make a change safe: what there may be from now on, with what is being done; the
//! effect; what there is then. The daemon can be killed between any two of them, and the next one
//! finds in the record what was begun (`adopt` settles it). An effect that fails is left written
//! down too, for whoever called to take it back by the same record.

use std::future::Future;

use super::clock::Usec;
use super::records::volatile::{self, Doing, Incarnation};
use super::{Engine, Error};

impl Engine {
    /// Does `effect`, which is `doing`, to the container of `record`.
    ///
    /// # Errors
    ///
    /// What `effect` returns; `record` then says what there may be of it.
    pub(super) async fn amend(
        &self,
        record: &mut Incarnation,
        doing: Doing,
        effect: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        record.intend(doing);
        self.write_record(record).await?;
        effect.await?;
        self.fulfil(record).await
    }

    /// What was being done to the container of `record` is done.
    pub(super) async fn fulfil(&self, record: &mut Incarnation) -> Result<(), Error> {
        record.fulfil(Usec::now(), Usec::now_monotonic());
        self.write_record(record).await
    }

    /// Writes down what a container is made of.
    pub(super) async fn write_record(&self, record: &Incarnation) -> Result<(), Error> {
        let record = record.clone();
        Ok(self.run.run(move |c| volatile::put(c, &record)).await?)
    }
}
