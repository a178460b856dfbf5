//! The raw costs that a run cannot avoid: a stream of messages, rows in a database, a flush.

use evenkeel_proto::v1;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, Executor};
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

struct Sink;

#[tonic::async_trait]
impl v1::agent_service_server::AgentService for Sink {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let mut last = 0;
        while let Some(message) = incoming.message().await? {
            if let Some(v1::agent_message::Body::Facts(batch)) = message.body {
                last = batch.first_sequence;
            }
        }
        let ack = v1::CoordinatorMessage {
            run: 1,
            body: Some(v1::coordinator_message::Body::Ack(v1::Ack {
                sequence: last,
            })),
        };
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(ack)))))
    }
}

/// As many messages as cases over one gRPC stream on loopback, each with one result, until the last is acknowledged.
pub fn stream(count: u32) -> Duration {
    runtime().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = v1::agent_service_server::AgentServiceServer::new(Sink);
        let incoming =
            tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(server)
                .serve_with_incoming(incoming),
        );
        let mut client =
            v1::agent_service_client::AgentServiceClient::connect(format!("http://{address}"))
                .await
                .expect("a connection");
        let (sender, receiver) = mpsc::channel(1024);
        let started = Instant::now();
        tokio::spawn(async move {
            for sequence in 0..u64::from(count) {
                let ended = v1::CaseEnded {
                    lease: 1,
                    generation: 1,
                    case: sequence as u32,
                    outcome: 1,
                    ..Default::default()
                };
                let fact = v1::Fact {
                    at_us: sequence,
                    slot: 0,
                    body: Some(v1::fact::Body::CaseEnded(ended)),
                };
                let batch = v1::FactBatch {
                    number: 1,
                    opening: 1,
                    run: "run".into(),
                    first_sequence: sequence,
                    sent_at_us: sequence,
                    facts: vec![fact],
                };
                let body = Some(v1::agent_message::Body::Facts(batch));
                sender
                    .send(v1::AgentMessage { body })
                    .await
                    .expect("the stream takes it");
            }
        });
        let mut answers = client
            .session(Messages(receiver))
            .await
            .expect("a session")
            .into_inner();
        answers
            .next()
            .await
            .expect("an answer")
            .expect("a good one");
        let took = started.elapsed();
        served.abort();
        took
    })
}

struct Messages(mpsc::Receiver<v1::AgentMessage>);

impl Stream for Messages {
    type Item = v1::AgentMessage;
    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// As many rows as cases into a fresh database with the store's settings.
pub fn insert(path: &Path, count: u32) -> Duration {
    runtime().block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = SqliteConnection::connect_with(&options)
            .await
            .expect("a database");
        connection
            .execute("CREATE TABLE results (id INTEGER PRIMARY KEY, payload BLOB)")
            .await
            .expect("a table");
        let payload = [7u8; 32];
        let statement = format!(
            "INSERT INTO results (payload) VALUES (?){}",
            ", (?)".repeat(499)
        );
        let started = Instant::now();
        for _ in 0..count / 1000 {
            connection.execute("BEGIN").await.expect("a transaction");
            for _ in 0..2 {
                let mut query = sqlx::query(sqlx::AssertSqlSafe(statement.clone()));
                for _ in 0..500 {
                    query = query.bind(&payload[..]);
                }
                query.execute(&mut connection).await.expect("rows");
            }
            connection.execute("COMMIT").await.expect("a commit");
        }
        started.elapsed()
    })
}

/// One small write, made durable.
pub fn flush(path: &Path) -> Duration {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("a file");
    file.write_all(&[1; 4096]).expect("a write");
    let started = Instant::now();
    file.sync_data().expect("a flush");
    started.elapsed()
}
