//! Splitting a long unit: what stays with its slot, and into which parts the rest goes.

use crate::Micros;
use crate::plan::lpt;
use std::collections::HashMap;

/// A case of the unit that has not started, in the unit's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub expected: Micros,
    /// Neighbours of the same class are kept together where that costs little: they may share fixtures.
    pub class: u32,
    /// Pieces of one group are never separated.
    pub group: Option<u32>,
    /// Its group has started already: it stays where it is.
    pub bound: bool,
}

/// Positions of the given pieces. Everything is exactly once in `keep` or in one of the parts, and no part is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// This many leading pieces stay.
    pub keep: usize,
    /// The others, each part in the unit's order.
    pub parts: Vec<Vec<u32>>,
}

/// A class is kept whole where its end is this near to where the cut should be, in percent of what is on the left of it.
const NEAR_PERCENT: u64 = 15;
/// Parts without gaps are kept unless they make the longest one longer than this, in percent of the best found.
const WORSE_PERCENT: u64 = 103;

/// A block that takes at least this share of a part is a part of its own, to start as early as it can.
const BIG_SHARE: u64 = 4;

/// Splits so that about `keep` stays and no part takes much more than `part`, into at most `most` parts and those that a
/// single long block fills, each of which pays `setup` once more. Where there are such, nothing stays: they are to start first, wherever that is. Nothing where
/// the groups leave nothing to give away, or where `most` is 0.
///
/// Parts are runs of neighbours, so that what they share is set up rarely, unless that makes them uneven; then longest
/// processing time first places them.
pub fn split(
    pieces: &[Piece],
    keep: Micros,
    part: Micros,
    setup: Micros,
    most: usize,
) -> Option<Split> {
    if most == 0 {
        return None;
    }
    let is_big =
        |weight: Micros| weight.0.saturating_mul(BIG_SHARE) >= part.0 && weight.0 >= 2 * setup.0;
    let any_big = blocks(pieces)
        .iter()
        .any(|block| is_big(weight(pieces, block)));
    let keep = cut(pieces, if any_big { Micros::ZERO } else { keep })?;
    let rest = &pieces[keep..];
    let (big, small): (Vec<_>, Vec<_>) = blocks(rest)
        .into_iter()
        .partition(|block| is_big(weight(rest, block)));
    let total: Micros = small.iter().map(|block| weight(rest, block)).sum();
    let wanted = total.0.div_ceil(part.0.max(1));
    let count = usize::try_from(wanted).unwrap_or(most).clamp(1, most);

    let mut parts = big;
    let weights: Vec<Micros> = small.iter().map(|block| weight(rest, block)).collect();
    let scattered = lpt(&weights, &vec![Micros::ZERO; count]);
    let grouped = small.iter().any(|block| block.len() > 1);
    let places: Vec<u32> = small.iter().map(|block| block[0]).collect();
    let singles: Vec<Piece> = places.iter().map(|&at| rest[at as usize]).collect();
    match neighbours(&singles, count).filter(|_| !grouped) {
        Some((runs, longest)) if longest.0 * 100 <= scattered.makespan.0 * WORSE_PERCENT => {
            let runs = runs.into_iter();
            parts.extend(runs.map(|run| run.into_iter().map(|at| places[at as usize]).collect()));
        }
        _ => parts.extend(scattered.shards.into_iter().map(|shard| {
            let blocks = shard.into_iter();
            let mut part: Vec<u32> = blocks
                .flat_map(|block| small[block as usize].iter().copied())
                .collect();
            part.sort_unstable();
            part
        })),
    }
    let parts = parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| part.into_iter().map(|at| at + keep as u32).collect())
        .collect();
    Some(Split { keep, parts })
}

fn weight(pieces: &[Piece], block: &[u32]) -> Micros {
    block.iter().map(|&at| pieces[at as usize].expected).sum()
}

/// How many leading pieces stay so that they take about `keep` and no group is cut; fewer than all.
fn cut(pieces: &[Piece], keep: Micros) -> Option<usize> {
    let mut last: HashMap<u32, usize> = HashMap::new();
    for (at, piece) in pieces.iter().enumerate() {
        if let Some(group) = piece.group {
            last.insert(group, at);
        }
    }
    let bound = pieces.iter().rposition(|piece| piece.bound);
    let mut open_until = bound.map_or(0, |at| at + 1);
    let mut before = Micros::ZERO;
    let mut best: Option<((u64, bool), usize)> = None;
    for at in 0..pieces.len() {
        if at >= open_until {
            // The nearest place; one between two classes may be a little further away.
            let off = before.0.abs_diff(keep.0);
            let between = at == 0 || pieces[at - 1].class != pieces[at].class;
            let bonus = if between {
                keep.0 * NEAR_PERCENT / 100
            } else {
                0
            };
            let distance = (off.saturating_sub(bonus), !between);
            if best.is_none_or(|(nearest, _)| distance < nearest) {
                best = Some((distance, at));
            }
        }
        if let Some(group) = pieces[at].group {
            open_until = open_until.max(last[&group] + 1);
        }
        before += pieces[at].expected;
    }
    best.map(|(_, at)| at)
}

/// What cannot be divided: the groups, and every other piece by itself.
fn blocks(pieces: &[Piece]) -> Vec<Vec<u32>> {
    let mut of_group: HashMap<u32, usize> = HashMap::new();
    let mut blocks: Vec<Vec<u32>> = Vec::new();
    for (at, piece) in (0..).zip(pieces) {
        let known = piece.group.and_then(|group| of_group.get(&group).copied());
        match known {
            Some(block) => blocks[block].push(at),
            None => {
                if let Some(group) = piece.group {
                    of_group.insert(group, blocks.len());
                }
                blocks.push(vec![at]);
            }
        }
    }
    blocks
}

/// Runs of neighbours of about the same length, and the length of the longest.
fn neighbours(pieces: &[Piece], count: usize) -> Option<(Vec<Vec<u32>>, Micros)> {
    let mut left: Micros = pieces.iter().map(|piece| piece.expected).sum();
    let mut parts: Vec<Vec<u32>> = Vec::new();
    let mut longest = Micros::ZERO;
    let mut from = 0;
    while from < pieces.len() {
        let open = count - parts.len();
        let fair = Micros(left.0 / open as u64);
        let size = if open == 1 {
            pieces.len() - from
        } else {
            cut(&pieces[from..], fair)?.max(1)
        };
        let part: Vec<u32> = (from as u32..(from + size) as u32).collect();
        let length: Micros = part.iter().map(|&at| pieces[at as usize].expected).sum();
        longest = longest.max(length);
        left = left - length;
        parts.push(part);
        from += size;
    }
    Some((parts, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(expected: u64) -> Piece {
        Piece {
            expected: Micros(expected),
            class: 0,
            group: None,
            bound: false,
        }
    }

    #[test]
    fn a_long_case_at_the_end_gets_a_part_of_its_own() {
        let mut pieces = vec![piece(20); 399];
        pieces.push(piece(3_000));
        let fair = Micros((399 * 20 + 3_000) / 4);
        let split = split(&pieces, fair, fair, Micros(20), 3).unwrap();
        assert_eq!(split.keep, 0, "it starts first, and so nothing else has to");
        assert_eq!(split.parts[0], [399]);
        assert!(split.parts[1].windows(2).all(|pair| pair[1] == pair[0] + 1));
        assert_eq!(split.parts.len(), 4);
    }

    #[test]
    fn neighbours_stay_together_and_classes_whole_where_that_costs_little() {
        let mut pieces = vec![piece(10); 40];
        for (at, piece) in pieces.iter_mut().enumerate() {
            piece.class = u32::from(at >= 11) + u32::from(at >= 21) + u32::from(at >= 31);
        }
        let split = split(&pieces, Micros(100), Micros(100), Micros(5), 3).unwrap();
        assert_eq!(split.keep, 11);
        let starts: Vec<u32> = split.parts.iter().map(|part| part[0]).collect();
        assert_eq!(starts, [11, 21, 31]);
    }

    #[test]
    fn a_group_is_never_cut_and_one_that_has_started_stays() {
        let mut pieces = vec![piece(10); 10];
        for at in [1, 4] {
            pieces[at].group = Some(7);
        }
        pieces[6].bound = true;
        let split = split(&pieces, Micros(10), Micros(100), Micros(1), 8).unwrap();
        assert_eq!(split.keep, 7, "everything up to what is bound");
        pieces[6].bound = false;
        let split = super::split(&pieces, Micros(20), Micros(400), Micros(1), 8).unwrap();
        assert!(split.keep <= 1 || split.keep >= 5, "{split:?}");
        let whole = vec![
            Piece {
                group: Some(1),
                ..piece(10)
            };
            5
        ];
        let all = super::split(&whole, Micros(20), Micros(10), Micros(1), 8).unwrap();
        assert_eq!((all.keep, all.parts.len()), (0, 1), "whole, elsewhere");
    }
}
