//! Ways to a coordinator: within this process, over a Unix socket, over TCP.

use crate::cli::Trust;
use crate::exit::Failure;
use evenkeel_coordinator::server::Coordinator;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::DuplexStream;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

/// Where a coordinator listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl Address {
    /// `unix:PATH` or `host:port`.
    pub fn parse(text: &str) -> Result<Address, Failure> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Address::Unix(path.into()));
        }
        let address = text.strip_prefix("http://").unwrap_or(text);
        let valid = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if valid {
            return Ok(Address::Tcp(address.to_owned()));
        }
        Err(Failure::usage(format!("{text:?} is no address"))
            .with_hint("write host:port or unix:PATH"))
    }

    /// Refuses what others could reach: nothing here proves who is calling. Whoever says so may do it all the same, and is warned.
    pub fn trusted(&self, trust: &Trust) -> Result<(), Failure> {
        let Address::Tcp(address) = self else {
            return Ok(());
        };
        if trust.insecure && self.only_local().is_err() {
            say!(
                "warning: {address} can be reached from other machines, and nothing protects the connection: whoever reaches it may run commands"
            );
            return Ok(());
        }
        self.only_local()
    }

    fn only_local(&self) -> Result<(), Failure> {
        let Address::Tcp(address) = self else {
            return Ok(());
        };
        let host = address
            .rsplit_once(':')
            .map_or(address.as_str(), |(host, _)| host);
        let local = host == "localhost"
            || address
                .parse::<SocketAddr>()
                .is_ok_and(|address| address.ip().is_loopback());
        if local {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{address} can be reached from other machines, and connections are not protected yet"
        ))
        .with_hint(
            "use a loopback address such as 127.0.0.1:7450, or unix:PATH; or say --insecure where all who reach the port are trusted",
        ))
    }
}

/// How much of a stream may be on its way before the sender waits, in bytes.
const WINDOW: u32 = 4 << 20;

/// How often the other side shows that it is there, and how long it has to.
const ALIVE: std::time::Duration = std::time::Duration::from_secs(5);

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .http2_keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE)
        .keep_alive_while_idle(true)
        .connect_timeout(std::time::Duration::from_secs(5))
        .tcp_nodelay(true)
}

/// Connects to a coordinator that listens somewhere.
pub async fn connect(address: &Address) -> Result<Channel, Failure> {
    let failed = |shown: String, source: tonic::transport::Error| {
        Failure::infrastructure(format!("no coordinator answers at {shown}"), source)
            .with_hint("start one with `evenkeel coordinator --listen ADDR`, or check the address")
    };
    match address {
        Address::Tcp(address) => {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
                Failure::usage(format!("{address:?} is no address")).caused_by(error)
            })?;
            tuned(endpoint)
                .connect()
                .await
                .map_err(|error| failed(address.clone(), error))
        }
        Address::Unix(path) => {
            let shown = path.display().to_string();
            let path = path.clone();
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            let endpoint = tuned(Endpoint::from_static("http://unix"));
            endpoint
                .connect_with_connector(connector)
                .await
                .map_err(|error| failed(shown, error))
        }
    }
}

/// Serves a coordinator inside this process; the function returned opens channels to it.
pub fn embed(coordinator: &Coordinator) -> Local {
    let (connections, accepted) = mpsc::channel(8);
    let incoming = Accepted(accepted);
    let router = coordinator.router();
    tokio::spawn(async move {
        // The server ends with the last channel; a fault of one connection is that connection's.
        router.serve_with_incoming(incoming).await.ok();
    });
    Local { connections }
}

/// A coordinator within this process.
#[derive(Clone)]
pub struct Local {
    connections: mpsc::Sender<DuplexStream>,
}

impl Local {
    pub async fn channel(&self) -> Result<Channel, Failure> {
        const BUFFER: usize = 1 << 20;
        let connections = self.connections.clone();
        let connector = tower::service_fn(move |_| {
            let connections = connections.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(BUFFER);
                let sent = connections.send(theirs).await;
                sent.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
                Ok::<_, std::io::Error>(TokioIo::new(ours))
            }
        });
        tuned(Endpoint::from_static("http://local"))
            .connect_with_connector(connector)
            .await
            .map_err(|error| {
                Failure::infrastructure("the coordinator in this process does not answer", error)
            })
    }
}

struct Accepted(mpsc::Receiver<DuplexStream>);

impl tokio_stream::Stream for Accepted {
    type Item = Result<DuplexStream, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|stream| stream.map(Ok))
    }
}
