//! `evenkeel coordinator`: serve runs to agents and clients on other processes.

use crate::cli::CoordinatorArgs;
use crate::connect::Address;
use crate::exit::{Exit, Failure};
use crate::run::{Signals, store_failure};
use evenkeel_coordinator::server::{Coordinator, Settings};
use evenkeel_coordinator::store::Store;
use tokio::net::{TcpListener, UnixListener};

pub async fn coordinator(args: CoordinatorArgs) -> Result<Exit, Failure> {
    let address = Address::parse(&args.listen)?;
    address.only_local()?;
    let mut signals = Signals::listen()?;
    let store = Store::open(&args.state).await.map_err(store_failure)?;
    let coordinator = Coordinator::start(store, Settings::default());
    let router = coordinator.router();
    let cannot_listen = |error: std::io::Error| {
        Failure::infrastructure(format!("cannot listen at {}", args.listen), error)
            .with_hint("is another coordinator there? Port 0 picks a free one")
    };
    let shutdown = async move {
        let name = signals.next().await;
        eprintln!("{name}: shutting down");
    };
    let served = match address {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(&address).await.map_err(cannot_listen)?;
            // The line that scripts wait for: data, on standard output.
            println!(
                "listening on {}",
                listener.local_addr().map_err(cannot_listen)?
            );
            let incoming =
                tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
            tokio::select! {
                served = router.serve_with_incoming(incoming) => served,
                () = shutdown => Ok(()),
            }
        }
        Address::Unix(path) => {
            std::fs::remove_file(&path).ok();
            let listener = UnixListener::bind(&path).map_err(cannot_listen)?;
            println!("listening on unix:{}", path.display());
            let incoming = Connections(listener);
            let served = tokio::select! {
                served = router.serve_with_incoming(incoming) => served,
                () = shutdown => Ok(()),
            };
            std::fs::remove_file(&path).ok();
            served
        }
    };
    served.map_err(|error| Failure::infrastructure("the server failed", error))?;
    Ok(Exit::Green)
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
