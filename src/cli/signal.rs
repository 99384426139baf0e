//! Ctrl-C: once finishes what runs, twice leaves everything as it is.

use tokio::sync::watch;

use crate::apply::Interrupt;

/// Listens for interrupts from now on, and tells `talk` what each will do; the second one leaves behind what `left` says.
pub(crate) fn watch_interrupts(left: &'static str, talk: impl Fn(&str) + Send + 'static) -> watch::Receiver<Interrupt> {
    let (sender, receiver) = watch::channel(Interrupt::None);
    // Installed here and not by the task: until the task first runs, an interrupt would end the process.
    let mut requests = SignalStream::install();
    tokio::spawn(async move {
        for (interrupt, words) in [
            (
                Interrupt::Finish,
                "interrupted: finishing the running steps and starting no more; interrupt again to stop at once\n",
            ),
            (Interrupt::Abort, left),
        ] {
            if !requests.next().await {
                return;
            }
            talk(words);
            if sender.send(interrupt).is_err() {
                return;
            }
        }
        // The receiver decides when to end; keep the channel open until then.
        sender.closed().await;
    });
    receiver
}

/// Ends at the first request to stop. It is listened for from now on.
pub(crate) fn shutdown_signal() -> impl Future<Output = ()> {
    let mut requests = SignalStream::install();
    async move {
        if !requests.next().await {
            // Nothing can be heard: only the end of the process ends it.
            std::future::pending::<()>().await;
        }
    }
}

/// Requests to stop, from the terminal or as a system sends them.
#[cfg(unix)]
struct SignalStream(Option<[tokio::signal::unix::Signal; 2]>);

#[cfg(unix)]
impl SignalStream {
    fn install() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self(signal(SignalKind::interrupt()).and_then(|interrupt| Ok([interrupt, signal(SignalKind::terminate())?])).ok())
    }

    /// Waits for the next one; false when none can be heard.
    async fn next(&mut self) -> bool {
        let Some([interrupt, terminate]) = &mut self.0 else { return false };
        tokio::select! {
            received = interrupt.recv() => received.is_some(),
            received = terminate.recv() => received.is_some(),
        }
    }
}

/// Requests to stop, from the terminal.
#[cfg(not(unix))]
struct Requests;

#[cfg(not(unix))]
impl SignalStream {
    fn install() -> Self {
        Self
    }

    /// Waits for the next one; false when none can be heard.
    async fn next(&mut self) -> bool {
        tokio::signal::ctrl_c().await.is_ok()
    }
}
