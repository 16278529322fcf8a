//! What long operations report while they run. Layers below `cli` never print: they hand these to a
//! [`Progress`], and `cli` draws a live block on a terminal or plain lines elsewhere.

/// One thing that happened to one resource.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// What it concerns, as shown: `Container shop-web-1`, `Network shop_default`, `Image redis:7`, `web`.
    pub resource: String,
    /// The resource it belongs to: a layer's image, a build step's build.
    pub parent: Option<String>,
    /// Its new condition.
    pub status: EventStatus,
    /// What to show: `Creating`, `Started`, `Downloading`, or a line of output.
    pub text: String,
    /// Bytes (or steps) done and in all, where known.
    pub amount: Option<(u64, u64)>,
}

/// The condition of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum EventStatus {
    /// Under way.
    Working,
    /// Reached what was wanted.
    Done,
    /// Done, but the user should read it.
    Warning,
    /// Failed; the error itself is returned by the operation.
    Error,
    /// A line of output of a build step.
    Output,
}

/// Receives events. Called from any thread.
pub trait Progress: Sync {
    /// Takes one event.
    fn report(&self, event: Event);

    /// Reports that `resource` is being worked on.
    fn working(&self, resource: &str, text: &str) {
        self.report(Event::new(resource, EventStatus::Working, text));
    }

    /// Reports that `resource` reached its state.
    fn done(&self, resource: &str, text: &str) {
        self.report(Event::new(resource, EventStatus::Done, text));
    }

    /// Reports something that the user should know.
    fn warning(&self, resource: &str, text: &str) {
        self.report(Event::new(resource, EventStatus::Warning, text));
    }
}

impl Event {
    /// An event without parent or amount.
    pub fn new(resource: &str, status: EventStatus, text: &str) -> Self {
        Self { resource: resource.to_owned(), parent: None, status, text: text.to_owned(), amount: None }
    }
}

/// Drops every event.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: Event) {}
}
