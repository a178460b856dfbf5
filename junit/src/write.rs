//! Writes a report: cuts suites into fragments, makes batches of them in parallel, writes the batches in order.
//!
//! While one window of batches is made by rayon's threads, the calling thread writes the window before it. Memory is
//! bounded by two windows, whatever the number of cases and the length of what they print: a batch that grows past its
//! bytes is left where it is, and finished fragment by fragment when its turn comes.

use std::io;
use std::ops::Range;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use rayon::prelude::*;
use thiserror::Error;

use crate::element::{element, set, set_number, set_time};
use crate::fragment::{self, FragmentError};
use crate::model::{Counts, Source, Suite, Totals};

/// Most cases of a fragment: what is in memory as cases, in junit-report and as XML, at once per thread.
const FRAGMENT_CASES: usize = 16;
/// A batch takes no further fragment once it has so many cases, suites' headers counted in.
const BATCH_CASES: usize = 512;
/// A batch makes no further fragment ahead of its turn once it has so many bytes of XML.
const BATCH_BYTES: usize = 1 << 20;
/// Batches of a window for each of rayon's threads.
const BATCHES_PER_THREAD: usize = 4;

/// Why a report could not be written. What was written before is no report.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The destination took no more.
    #[error("cannot write the report")]
    Output {
        #[source]
        source: io::Error,
    },
    #[error("cannot write suite `{suite}`")]
    Fragment {
        /// Name of the suite.
        suite: String,
        #[source]
        source: FragmentError,
    },
    /// The source broke its promise on [`Source::cases`].
    #[error("suite `{suite}` gave {given} cases when asked for {}..{}", range.start, range.end)]
    Cases {
        /// Name of the suite.
        suite: String,
        /// The cases that it was asked for.
        range: Range<usize>,
        /// How many came.
        given: usize,
    },
    /// A header's counts are not those of the suite's cases, so the report would lie.
    #[error("suite `{suite}` was said to have {stated}, but has {found}")]
    Miscounted {
        /// Name of the suite.
        suite: String,
        /// The header's counts.
        stated: Counts,
        /// What the cases add up to.
        found: Counts,
    },
    /// A suite came, went or changed while the report was written.
    #[error("the suites changed while the report was written")]
    Changed,
}

/// Writes the report of all of `source`'s suites under the name `name`, and says what it added up to.
///
/// Suites and cases come in the source's order; the same source gives the same bytes. A write to `out` is seldom shorter
/// than some kilobytes, so `out` needs no buffer. Rayon's current pool makes the XML; `out` stays on this thread.
///
/// # Errors
/// Whatever [`WriteError`] lists. `out` then holds a part of a report, which is not well-formed XML.
pub fn write<W: io::Write + ?Sized>(
    source: &(impl Source + ?Sized),
    name: &str,
    out: &mut W,
) -> Result<Totals, WriteError> {
    let mut announced = Totals::default();
    for index in 0..source.suites() {
        announced.add(&source.suite(index));
    }
    put(out, &report_start(name, &announced)?)?;

    let mut plan = fragments(source);
    let mut audit = Audit::default();
    let mut ready: Vec<Result<Made<'_>, WriteError>> = Vec::new();
    loop {
        let window = next_window(&mut plan);
        let done = window.is_empty();
        let mut made = Vec::new();
        rayon::in_place_scope(|scope| {
            scope.spawn(|_| {
                let batches = window.into_par_iter().with_max_len(1);
                made = batches.map(|batch| make(source, batch)).collect();
            });
            ready
                .drain(..)
                .try_for_each(|made| finish(source, made?, &mut audit, out))
        })?;
        if done {
            break;
        }
        ready = made;
    }

    put(out, b"\n</testsuites>\n")?;
    out.flush()
        .map_err(|source| WriteError::Output { source })?;
    if audit.written == announced {
        Ok(announced)
    } else {
        Err(WriteError::Changed)
    }
}

/// Some consecutive cases of a suite; those of a suite without cases are none.
struct Fragment<'a> {
    suite: usize,
    /// The suite's header, if the fragment is the suite's first.
    header: Option<Suite<'a>>,
    cases: Range<usize>,
    /// Whether the suite ends here.
    last: bool,
}

/// A batch after its turn on a thread: all its fragments, and the XML of as many as were made.
struct Made<'a> {
    fragments: Vec<Fragment<'a>>,
    /// What the cases add up to, for each fragment that was made.
    counts: Vec<Counts>,
    xml: Vec<u8>,
}

fn fragments<S: Source + ?Sized>(source: &S) -> impl Iterator<Item = Fragment<'_>> {
    (0..source.suites()).flat_map(move |index| {
        let suite = source.suite(index);
        let tests = suite.counts.tests;
        let mut header = Some(suite);
        (0..tests.max(1)).step_by(FRAGMENT_CASES).map(move |first| {
            let end = tests.min(first + FRAGMENT_CASES);
            Fragment {
                suite: index,
                header: header.take(),
                cases: first..end,
                last: end == tests,
            }
        })
    })
}

fn next_window<'a>(plan: &mut impl Iterator<Item = Fragment<'a>>) -> Vec<Vec<Fragment<'a>>> {
    let batches = rayon::current_num_threads() * BATCHES_PER_THREAD;
    let mut window = Vec::with_capacity(batches);
    while window.len() < batches {
        let mut batch = Vec::new();
        let mut cases = 0;
        while cases < BATCH_CASES
            && let Some(fragment) = plan.next()
        {
            cases += fragment.cases.len() + usize::from(fragment.header.is_some());
            batch.push(fragment);
        }
        if batch.is_empty() {
            break;
        }
        window.push(batch);
    }
    window
}

fn make<'a>(
    source: &(impl Source + ?Sized),
    fragments: Vec<Fragment<'a>>,
) -> Result<Made<'a>, WriteError> {
    let mut made = Made {
        counts: Vec::with_capacity(fragments.len()),
        fragments,
        xml: Vec::new(),
    };
    for fragment in &made.fragments {
        made.counts.push(append(source, fragment, &mut made.xml)?);
        if made.xml.len() >= BATCH_BYTES {
            break;
        }
    }
    Ok(made)
}

/// Writes a batch, and those of its fragments that were not made ahead.
fn finish<W: io::Write + ?Sized>(
    source: &(impl Source + ?Sized),
    made: Made<'_>,
    audit: &mut Audit,
    out: &mut W,
) -> Result<(), WriteError> {
    let Made {
        fragments,
        counts,
        mut xml,
    } = made;
    let (ahead, behind) = fragments.split_at(counts.len());
    put(out, &xml)?;
    for (fragment, counts) in ahead.iter().zip(counts) {
        audit.add(source, fragment, counts)?;
    }
    for fragment in behind {
        xml.clear();
        let counts = append(source, fragment, &mut xml)?;
        put(out, &xml)?;
        audit.add(source, fragment, counts)?;
    }
    Ok(())
}

fn append(
    source: &(impl Source + ?Sized),
    fragment: &Fragment<'_>,
    xml: &mut Vec<u8>,
) -> Result<Counts, WriteError> {
    let range = fragment.cases.clone();
    let cases = if range.is_empty() {
        Vec::new()
    } else {
        source.cases(fragment.suite, range.clone())
    };
    let name = || source.suite(fragment.suite).name.into_owned();
    if cases.len() != range.len() {
        return Err(WriteError::Cases {
            suite: name(),
            range,
            given: cases.len(),
        });
    }
    fragment::append(fragment.header.as_ref(), &cases, fragment.last, xml).map_err(|source| {
        WriteError::Fragment {
            suite: name(),
            source,
        }
    })?;
    let mut counts = Counts::default();
    for case in &cases {
        counts.count(&case.outcome);
    }
    Ok(counts)
}

/// Holds the headers, which are written before the cases, against the cases.
#[derive(Default)]
struct Audit {
    written: Totals,
    /// What the current suite's header says.
    stated: Counts,
    /// What the current suite's cases add up to so far.
    found: Counts,
}

impl Audit {
    fn add(
        &mut self,
        source: &(impl Source + ?Sized),
        fragment: &Fragment<'_>,
        counts: Counts,
    ) -> Result<(), WriteError> {
        if let Some(suite) = &fragment.header {
            self.written.add(suite);
            self.stated = suite.counts;
            self.found = Counts::default();
        }
        self.found += counts;
        if fragment.last && self.found != self.stated {
            let suite = source.suite(fragment.suite).name.into_owned();
            return Err(WriteError::Miscounted {
                suite,
                stated: self.stated,
                found: self.found,
            });
        }
        Ok(())
    }
}

fn report_start(name: &str, totals: &Totals) -> Result<Vec<u8>, WriteError> {
    let mut start = element("testsuites");
    set(&mut start, "name", name);
    set_number(&mut start, "tests", totals.counts.tests);
    set_number(&mut start, "failures", totals.counts.failures);
    set_number(&mut start, "errors", totals.counts.errors);
    set_number(&mut start, "skipped", totals.counts.skipped);
    set_time(&mut start, totals.duration);

    let mut writer = Writer::new(Vec::new());
    let declaration = BytesDecl::new("1.0", Some("UTF-8"), None);
    for event in [
        Event::Decl(declaration),
        Event::Text(BytesText::from_escaped("\n")),
        Event::Start(start),
    ] {
        writer
            .write_event(event)
            .map_err(|source| WriteError::Output { source })?;
    }
    Ok(writer.into_inner())
}

fn put<W: io::Write + ?Sized>(out: &mut W, bytes: &[u8]) -> Result<(), WriteError> {
    out.write_all(bytes)
        .map_err(|source| WriteError::Output { source })
}
