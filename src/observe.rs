//! What a coordinator shows of itself: a log on standard error, and metrics for Prometheus.

use crate::cli::{LogFormat, Trust};
use crate::connect::Address;
use crate::exit::Failure;
use crate::lines::Lines;
use evenkeel_coordinator::server::metrics;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::net::TcpListener;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Histograms forget what is older than they show, this often.
const UPKEEP: Duration = Duration::from_secs(5);

/// Writes what happens to standard error, which makes nothing wait.
pub fn log(format: LogFormat) {
    let log = tracing_subscriber::fmt()
        .with_writer(Lines)
        .with_max_level(LevelFilter::DEBUG)
        .with_target(false);
    // Connections that break the protocol end below our services, which says so for who looks for defects; who operates wants to know, too.
    let filter = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("tonic::transport::server", LevelFilter::DEBUG);
    match format {
        LogFormat::Text => {
            let log = log.with_ansi(std::io::stderr().is_terminal());
            log.finish().with(filter).init();
        }
        LogFormat::Json => {
            let log = log.json().flatten_event(true);
            log.finish().with(filter).init();
        }
    }
}

/// Counts from now on, and serves what was counted at `/metrics`.
pub async fn serve_metrics(listen: &str, trust: &Trust) -> Result<(), Failure> {
    let address = Address::parse(listen)?;
    address.trusted(trust)?;
    let Address::Tcp(address) = address else {
        return Err(
            Failure::usage("metrics are served over TCP").with_hint("write --metrics host:port")
        );
    };
    let cannot = |error: std::io::Error| {
        Failure::infrastructure(format!("cannot serve metrics at {listen}"), error)
    };
    let recorder = PrometheusBuilder::new().install_recorder();
    let handle =
        recorder.map_err(|error| Failure::infrastructure("metrics cannot be counted", error))?;
    metrics::describe();
    let listener = TcpListener::bind(&address).await.map_err(cannot)?;
    // A line that scripts wait for.
    let place = listener.local_addr().map_err(cannot)?;
    writeln!(std::io::stdout(), "metrics on {place}").ok();
    tokio::spawn(keep_up(handle.clone()));
    let show = move || {
        let text = handle.render();
        async move { text }
    };
    let router = axum::Router::new().route("/metrics", axum::routing::get(show));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("metrics are served no more: {error}");
        }
    });
    Ok(())
}

async fn keep_up(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        handle.run_upkeep();
    }
}
