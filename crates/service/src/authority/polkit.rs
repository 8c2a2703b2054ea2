//! Asking polkit.

use std::collections::HashMap;

use zbus::Message;
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use super::{Action, AnyOf, Caller, Interactive, Question, Refusal};

/// polkit, on the bus the daemon is called over.
#[derive(Debug)]
pub struct Polkit(AuthorityProxy<'static>);

impl Polkit {
    /// polkit as seen through `client`, a connection that serves nothing, so that its replies
    /// never wait behind calls to us.
    ///
    /// # Errors
    ///
    /// If the proxy cannot be made. Whether polkit is there shows at the first question.
    pub async fn new(client: &zbus::Connection) -> zbus::Result<Self> {
        AuthorityProxy::new(client).await.map(Self)
    }

    /// Asks about all that is needed; the first that is refused decides.
    pub(super) async fn check(&self, caller: &Caller, question: &Question) -> Result<(), Refusal> {
        for need in &question.needs {
            self.check_any(caller, need, question).await?;
        }
        Ok(())
    }

    async fn check_any(
        &self,
        caller: &Caller,
        need: &AnyOf,
        question: &Question,
    ) -> Result<(), Refusal> {
        let quiet = Caller { interactive: Interactive::No, ..caller.clone() };
        for action in &need.quietly {
            if self.ask(&quiet, *action, question).await.is_ok() {
                return Ok(());
            }
        }
        self.ask(caller, need.action, question).await
    }

    async fn ask(
        &self,
        caller: &Caller,
        action: Action,
        question: &Question,
    ) -> Result<(), Refusal> {
        // The bus vouches for its names; a process id could be somebody else's by now.
        let Ok(subject) = subject(&caller.bus_name) else {
            return Err(Refusal::Denied(action));
        };
        let details: HashMap<&str, &str> =
            question.details.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let flags = match caller.interactive {
            Interactive::Yes => CheckAuthorizationFlags::ALLOW_USER_INTERACTION,
            Interactive::No => CheckAuthorizationFlags::empty(),
        };
        match self.0.check_authorization(&subject, action.id(), &details, flags, "").await {
            Ok(result) if result.is_authorized => Ok(()),
            Ok(result) if result.is_challenge && caller.interactive == Interactive::No => {
                Err(Refusal::NeedsInteraction(action))
            }
            Ok(_) => Err(Refusal::Denied(action)),
            Err(error) => {
                tracing::warn!("polkit does not answer: {error}");
                Err(Refusal::Denied(action))
            }
        }
    }
}

/// The library makes such a subject of a message alone, so here is one from that sender.
fn subject(bus_name: &str) -> Result<Subject, Box<dyn std::error::Error + Send + Sync>> {
    let message = Message::method_call("/", "Call").sender(bus_name).build(&())?;
    Ok(Subject::new_for_message_header(&message.header())?)
}
