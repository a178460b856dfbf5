//! Reports of a run, written from its record: JUnit XML and JSON.

mod import;
mod json;
mod junit;
mod outputs;

pub use import::{Imported, Naming, import};
pub use json::SCHEMA_VERSION;
pub use outputs::Outputs;

use crate::record::Record;
use crate::rehearsal::Explained;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// File names within a run's directory.
pub const OUTPUTS: &str = "outputs";
pub const JUNIT: &str = "junit.xml";
pub const JSON: &str = "report.json";

/// The file with one suite's part of the JUnit report, where the suite's own options ask for that.
pub fn junit_of(suite: u32) -> String {
    format!("junit-{suite}.xml")
}

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write the JUnit report {path}")]
    Junit {
        path: PathBuf,
        #[source]
        source: Box<evenkeel_junit::WriteError>,
    },
    #[error("cannot read the outputs {path}")]
    Outputs {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Writes both reports into a run's directory, each under its final name only once it is whole.
pub fn write_all(
    record: &Record,
    explained: Option<&Explained>,
    directory: &Path,
) -> Result<(), ReportError> {
    std::fs::create_dir_all(directory).map_err(|source| ReportError::Write {
        path: directory.to_owned(),
        source,
    })?;
    let path = directory.join(OUTPUTS);
    let outputs = Outputs::open(&path).map_err(|source| ReportError::Outputs { path, source })?;
    let json_path = directory.join(JSON);
    // Where there is one suite, its part is all of it.
    let suites = record.wanted_junit().into_keys();
    let several = record.opened.suites.len() > 1;
    let parts = suites.filter(|_| several).map(Some);
    let (junit, json) = rayon::join(
        || {
            let mut reports = [None].into_iter().chain(parts);
            reports.try_for_each(|suite| {
                let path = directory.join(suite.map_or_else(|| JUNIT.to_owned(), junit_of));
                write_whole(&path, |file| {
                    let written = junit::write(record, suite, &outputs, file);
                    written.map_err(|source| ReportError::Junit {
                        path: path.clone(),
                        source: Box::new(source),
                    })
                })
            })
        },
        || {
            write_whole(&json_path, |file| {
                json::write(record, explained, &outputs, file).map_err(|source| {
                    ReportError::Write {
                        path: json_path.clone(),
                        source,
                    }
                })
            })
        },
    );
    junit.and(json)
}

/// One report of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Json,
    /// Of all suites, or one suite's part.
    Junit(Option<u32>),
}

/// A report without a file: for where there is no room for one.
pub fn render(record: &Record, directory: &Path, report: Report) -> Result<Vec<u8>, ReportError> {
    let path = directory.join(OUTPUTS);
    let outputs = Outputs::open(&path).map_err(|source| ReportError::Outputs { path, source })?;
    let mut text = Vec::new();
    match report {
        Report::Json => json::write(record, None, &outputs, &mut text).map_err(|source| {
            let path = directory.join(JSON);
            ReportError::Write { path, source }
        })?,
        Report::Junit(suite) => {
            junit::write(record, suite, &outputs, &mut text).map_err(|source| {
                let path = directory.join(suite.map_or_else(|| JUNIT.to_owned(), junit_of));
                let source = Box::new(source);
                ReportError::Junit { path, source }
            })?;
        }
    }
    Ok(text)
}

fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), ReportError>,
) -> Result<(), ReportError> {
    let failed = |source| ReportError::Write {
        path: path.to_owned(),
        source,
    };
    let partial = path.with_extension("partial");
    let mut file = BufWriter::with_capacity(1 << 18, File::create(&partial).map_err(failed)?);
    write(&mut file)?;
    file.flush().map_err(failed)?;
    std::fs::rename(&partial, path).map_err(failed)
}
