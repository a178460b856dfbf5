//! What a new unit was called before: the unit that is gone whose name has most in common with its own.
//!
//! Names are compared by their words, wherever those are: a file may move, a test may get other parameters, a word may change.
//! A word counts for more the fewer names have it (inverse document frequency, Spärck Jones 1972): that two files are
//! called `test_….py` says nothing.

use std::collections::HashMap;

/// The unit that is gone, by its place among those given, and how much the names have in common: up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Namesake {
    pub gone: usize,
    pub likeness: f64,
}

/// So many units that are gone are compared with a new one, those first that share its rarest word.
const CANDIDATES: usize = 48;

/// Of each new unit the best one there is, if any shares a word with it. `all` are the names in which words are counted.
pub(super) fn namesakes(new: &[&str], gone: &[&str], all: &[&str]) -> Vec<Option<Namesake>> {
    if gone.is_empty() {
        return vec![None; new.len()];
    }
    let mut words = Words::default();
    for name in all {
        words.count(name);
    }
    let gone: Vec<Vec<u32>> = gone.iter().map(|name| words.of(name)).collect();
    let mut having: HashMap<u32, Vec<u32>> = HashMap::new();
    for (place, own) in (0u32..).zip(&gone) {
        for &word in own {
            having.entry(word).or_default().push(place);
        }
    }
    let best = |name: &&str| {
        let own = words.of(name);
        let mut rarest: Vec<(usize, u32)> = own
            .iter()
            .filter_map(|word| Some((having.get(word)?.len(), *word)))
            .collect();
        rarest.sort_unstable();
        let shared = rarest.iter().flat_map(|(_, word)| &having[word]);
        let mut candidates: Vec<u32> = shared.take(CANDIDATES).copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let mut best: Option<Namesake> = None;
        for place in candidates {
            let likeness = words.likeness(&own, &gone[place as usize]);
            if best.is_none_or(|best| likeness > best.likeness) {
                best = Some(Namesake {
                    gone: place as usize,
                    likeness,
                });
            }
        }
        best
    };
    new.iter().map(best).collect()
}

/// Words by number, and in how many names each is.
#[derive(Default)]
struct Words<'a> {
    numbers: HashMap<&'a str, u32>,
    counts: Vec<u32>,
    bases: Vec<bool>,
    names: u32,
}

impl<'a> Words<'a> {
    fn count(&mut self, name: &'a str) {
        self.names += 1;
        let mut own: Vec<u32> = words(name)
            .map(|word| {
                let next = self.numbers.len() as u32;
                *self.numbers.entry(word).or_insert(next)
            })
            .collect();
        self.counts.resize(self.numbers.len(), 0);
        self.bases.resize(self.numbers.len(), false);
        if let Some(&base) = own.last() {
            self.bases[base as usize] = true;
        }
        own.sort_unstable();
        own.dedup();
        own.iter().for_each(|&word| self.counts[word as usize] += 1);
    }

    /// The distinct words of a name, in the order of their numbers.
    fn of(&self, name: &str) -> Vec<u32> {
        let known = words(name).filter_map(|word| self.numbers.get(word).copied());
        let mut own: Vec<u32> = known.collect();
        own.sort_unstable();
        own.dedup();
        own
    }

    fn weight(&self, word: u32) -> f64 {
        (f64::from(self.names + 1) / f64::from(self.counts[word as usize])).ln()
    }

    /// The weight of what two names share, as a part of all that they have (Jaccard's index, weighted). Bases that differ do
    /// not count: their words do.
    fn likeness(&self, one: &[u32], other: &[u32]) -> f64 {
        let (mut shared, mut all) = (0.0, 0.0);
        let (mut a, mut b) = (0, 0);
        while a < one.len() || b < other.len() {
            let (left, right) = (one.get(a), other.get(b));
            let word = match (left, right) {
                (Some(left), Some(right)) => *left.min(right),
                (Some(word), None) | (None, Some(word)) => *word,
                (None, None) => break,
            };
            let weight = self.weight(word);
            if left == right {
                shared += weight;
            }
            if left == right || !self.bases[word as usize] {
                all += weight;
            }
            a += usize::from(left == Some(&word));
            b += usize::from(right == Some(&word));
        }
        if all > 0.0 { shared / all } else { 0.0 }
    }
}

/// Runs of letters and digits; and what is behind the last directory or file, as a word of its own.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let parts = name.split(|letter: char| !letter.is_alphanumeric());
    parts.filter(|part| !part.is_empty()).chain([base(name)])
}

/// With the separator, so that it is not one of the words.
fn base(name: &str) -> &str {
    let behind = name.rfind(['/', ':']).or_else(|| name.rfind('.'));
    behind.map_or("", |at| &name[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_moved_is_found_by_its_name_and_not_by_what_all_are_called() {
        let gone = ["old/test_parser.py", "old/test_lexer.py"];
        let new = ["new/test_lexer.py", "new/test_other.py"];
        let all: Vec<&str> = gone.iter().chain(&new).copied().collect();
        let found = namesakes(&new, &gone, &all);
        let lexer = found[0].unwrap();
        assert_eq!(lexer.gone, 1);
        assert!(lexer.likeness > 0.5, "{lexer:?}");
        assert!(
            found[1].is_none_or(|other| other.likeness < 0.2),
            "{found:?}"
        );
    }

    #[test]
    fn other_parameters_are_the_same_test() {
        let gone = ["t.py::test_sum[1-2]", "t.py::test_product[1-2]"];
        let new = ["t.py::test_sum[7-9]"];
        let all: Vec<&str> = gone.iter().chain(&new).copied().collect();
        let found = namesakes(&new, &gone, &all)[0].unwrap();
        assert_eq!(found.gone, 0);
    }
}
