//! Reports as an independent parser, roxmltree, reads them.

mod any_text;
mod examples;

use std::ops::Range;

use evenkeel_junit::{Case, Counts, Source, Suite, Totals, write};
use roxmltree::Node;

/// A report in memory.
#[derive(Debug, Default)]
pub struct Memory(pub Vec<(Suite<'static>, Vec<Case<'static>>)>);

impl Source for Memory {
    fn suites(&self) -> usize {
        self.0.len()
    }

    fn suite(&self, index: usize) -> Suite<'_> {
        self.0[index].0.clone()
    }

    fn cases(&self, suite: usize, range: Range<usize>) -> Vec<Case<'_>> {
        self.0[suite].1[range].to_vec()
    }
}

impl Memory {
    /// Adds a suite after counting its cases.
    pub fn with(mut self, mut suite: Suite<'static>, cases: Vec<Case<'static>>) -> Self {
        suite.counts = Counts::default();
        for case in &cases {
            suite.counts.count(&case.outcome);
        }
        self.0.push((suite, cases));
        self
    }
}

pub fn written(source: &impl Source, name: &str) -> (String, Totals) {
    let mut out = Vec::new();
    let totals = write(source, name, &mut out).expect("a sound source can be written");
    (String::from_utf8(out).expect("a report is UTF-8"), totals)
}

pub fn elements<'a, 'input: 'a>(node: Node<'a, 'input>) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(Node::is_element)
}
