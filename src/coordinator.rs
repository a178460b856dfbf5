//! `evenkeel coordinator`: serve runs to agents and clients on other processes.

use crate::cli::CoordinatorArgs;
use crate::connect::Address;
use crate::exit::{Exit, Failure};
use crate::run::{Signals, store_failure};
use crate::{observe, store};
use evenkeel_coordinator::server::{Coordinator, Settings};
use evenkeel_coordinator::store::Store;
use std::io::Write;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};

/// How often old runs are looked for.
const PRUNE: Duration = Duration::from_secs(3600);

pub async fn coordinator(args: CoordinatorArgs) -> Result<Exit, Failure> {
    let address = Address::parse(&args.listen)?;
    address.trusted(&args.trust)?;
    let mut signals = Signals::listen()?;
    observe::log(args.log);
    if let Some(listen) = &args.metrics {
        observe::serve_metrics(listen, &args.trust).await?;
    }
    let place = store::address(args.store.clone(), &args.state);
    let name = format!("{} at {}", std::process::id(), args.listen);
    let store = Store::serve_from(&place, &args.state, &name)
        .await
        .map_err(store_failure)?;
    if let Some(keep) = args.keep {
        tokio::spawn(prune(store.clone(), keep));
    }
    let settings = Settings {
        heartbeat: (args.lost_after / 5).min(Duration::from_secs(1)),
        lost_after: args.lost_after,
        ..Settings::default()
    };
    let coordinator = Coordinator::start(store, settings)
        .await
        .map_err(store_failure)?;
    let router = coordinator.public_router();
    let cannot_listen = |error: std::io::Error| {
        Failure::infrastructure(format!("cannot listen at {}", args.listen), error)
            .with_hint("is another coordinator there? Port 0 picks a free one")
    };
    let shutdown = async move {
        let name = signals.next().await;
        tracing::info!(
            "{name}: shutting down; runs go on when a coordinator is started on the store again"
        );
        None
    };
    let until = async {
        tokio::select! {
            ended = shutdown => ended,
            error = coordinator.superseded() => Some(error),
        }
    };
    let ended = match address {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(&address).await.map_err(cannot_listen)?;
            listening(&listener.local_addr().map_err(cannot_listen)?.to_string());
            let incoming =
                tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
            tokio::select! {
                served = router.serve_with_incoming(incoming) => Err(served),
                ended = until => Ok(ended),
            }
        }
        Address::Unix(path) => {
            std::fs::remove_file(&path).ok();
            let listener = UnixListener::bind(&path).map_err(cannot_listen)?;
            listening(&format!("unix:{}", path.display()));
            let incoming = Connections(listener);
            let served = tokio::select! {
                served = router.serve_with_incoming(incoming) => Err(served),
                ended = until => Ok(ended),
            };
            std::fs::remove_file(&path).ok();
            served
        }
    };
    match ended {
        Ok(None) => Ok(Exit::Green),
        Ok(Some(error)) => Err(Failure::infrastructure("this coordinator stops", error)),
        Err(Ok(())) => Ok(Exit::Green),
        Err(Err(error)) => Err(Failure::infrastructure("the server failed", error)),
    }
}

/// The line that scripts wait for: data, on standard output. A coordinator whose output nobody takes serves all the same.
fn listening(place: &str) {
    writeln!(std::io::stdout(), "listening on {place}").ok();
    tracing::info!("listening on {place}");
}

async fn prune(store: Store, keep: Duration) {
    loop {
        match store.prune(store::ago(keep)).await {
            Ok(pruned) if pruned.runs > 0 => {
                tracing::info!(runs = pruned.runs, "old runs removed");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("old runs cannot be removed: {error}"),
        }
        tokio::time::sleep(PRUNE).await;
    }
}

struct Connections(UnixListener);

impl tokio_stream::Stream for Connections {
    type Item = std::io::Result<tokio::net::UnixStream>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0
            .poll_accept(context)
            .map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}
