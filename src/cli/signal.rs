//! Ctrl-C: once finishes what runs, twice leaves everything as it is.
//!
//! Must not do: end the process.

use tokio::sync::watch;

use crate::apply::Interrupt;

/// Listens for interrupts from now on, and tells `talk` what each will do.
pub(crate) fn listen(talk: impl Fn(&str) + Send + 'static) -> watch::Receiver<Interrupt> {
    let (sender, receiver) = watch::channel(Interrupt::None);
    tokio::spawn(async move {
        for (interrupt, words) in [
            (
                Interrupt::Finish,
                "interrupted: what runs is finished, nothing more is begun; once more leaves everything as it is\n",
            ),
            (Interrupt::Abort, "left as it is; run the same command again to go on\n"),
        ] {
            if !asked().await {
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

/// Waits until somebody asks to stop, from the terminal or as a system does; false when that cannot be heard.
async fn asked() -> bool {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return false };
        tokio::select! {
            result = tokio::signal::ctrl_c() => result.is_ok(),
            received = terminate.recv() => received.is_some(),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.is_ok()
}
