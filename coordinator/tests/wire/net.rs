//! gRPC over simulated TCP.

use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use turmoil::net::{TcpListener, TcpStream};

pub const PORT: u16 = 7450;

/// Connections are the simulation's; gRPC wants to ask them who they are.
pub struct Wire(TcpStream);

impl Connected for Wire {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// What comes to this host's port.
pub async fn listen() -> io::Result<Incoming> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let (connections, accepted) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if connections.send(Wire(stream)).await.is_err() {
                return;
            }
        }
    });
    Ok(Incoming(accepted))
}

pub struct Incoming(mpsc::Receiver<Wire>);

impl tokio_stream::Stream for Incoming {
    type Item = io::Result<Wire>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.0.poll_recv(context);
        next.map(|wire| wire.map(Ok))
    }
}

/// As the command line tunes its connections.
fn endpoint() -> Endpoint {
    const ALIVE: Duration = Duration::from_secs(5);
    Endpoint::from_static("http://coordinator")
        .http2_keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE)
        .keep_alive_while_idle(true)
        .connect_timeout(Duration::from_secs(5))
}

/// `find` says where the coordinator is at present.
pub async fn connect(
    find: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> Result<Channel, tonic::transport::Error> {
    endpoint().connect_with_connector(connector(find)).await
}

pub fn connect_lazily(find: impl Fn() -> String + Clone + Send + Sync + 'static) -> Channel {
    endpoint().connect_with_connector_lazy(connector(find))
}

fn connector(
    find: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> impl tower::Service<
    tonic::transport::Uri,
    Response = TokioIo<Wire>,
    Error = io::Error,
    Future: Send,
> + Send {
    tower::service_fn(move |_| {
        let host = find();
        async move {
            let stream = TcpStream::connect((host.as_str(), PORT)).await?;
            Ok(TokioIo::new(Wire(stream)))
        }
    })
}
