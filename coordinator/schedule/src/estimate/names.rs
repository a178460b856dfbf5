//! What names tell: the groups that units form by how their names begin.
//!
//! Nothing is known of any framework's way to name things. A name is words between separators, and a group is all that
//! begins with the same ones: a directory, a file, a class, a function with its parameters. How much a group of some kind
//! tells of its members is learned elsewhere.

/// Where the names of a group part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All units.
    Root,
    /// Behind `/`, `:` or `.`: directories, files, classes.
    Path,
    /// Behind a space: groups and tests that have titles.
    Title,
    /// Behind `_`, `-` and whatever else is within a name.
    Word,
    /// Behind `[` or `(`: parameters of one test.
    Parameter,
}

pub(super) const KINDS: usize = 5;

/// Groups that are nested deeper than this count as the one around them, so that no set of names makes a path long.
const DEEPEST: u32 = 10;

/// At least two units whose names begin alike; the first group is all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The group around it, which has a smaller number; the first is its own.
    pub parent: u32,
    pub kind: Kind,
    /// Its units, by their place in the order of names.
    pub first: u32,
    pub end: u32,
}

/// All groups, and of each unit the innermost one.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    pub groups: Vec<Group>,
    pub of_unit: Vec<u32>,
}

/// An interval of names with a common beginning, while it is looked for.
struct Interval {
    length: usize,
    first: usize,
    end: usize,
    parent: usize,
}

/// The groups that these names form, which are distinct and in their order.
pub(super) fn groups(names: &[&str]) -> Groups {
    // Intervals of names over which no common beginning of neighbours is shorter, the inner ones before those around them
    // (Abouelhoda, Kurtz and Ohlebusch, 2004).
    let mut found: Vec<Interval> = Vec::new();
    let mut open: Vec<(Interval, Vec<usize>)> = Vec::new();
    let interval = |length, first| Interval {
        length,
        first,
        end: 0,
        parent: 0,
    };
    open.push((interval(0, 0), Vec::new()));
    for place in 1..=names.len() {
        let length = match names.get(place) {
            Some(name) => shared(names[place - 1], name),
            None => 0,
        };
        let mut first = place - 1;
        let mut inner = None;
        while let Some((last, _)) = open.last()
            && last.length > length
        {
            let (mut last, children) = open.pop().expect("there is a last one");
            first = last.first;
            last.end = place;
            let number = found.len();
            children
                .iter()
                .for_each(|&child| found[child].parent = number);
            found.push(last);
            match open.last_mut() {
                Some((around, children)) if around.length >= length => children.push(number),
                _ => inner = Some(number),
            }
        }
        if open.last().is_none_or(|(last, _)| last.length < length) {
            open.push((interval(length, first), inner.into_iter().collect()));
        }
    }
    let (mut root, children) = open.pop().expect("the shortest beginning is nobody's end");
    root.end = names.len();
    let number = found.len();
    children
        .iter()
        .for_each(|&child| found[child].parent = number);
    root.parent = number;
    found.push(root);
    numbered(&found, names)
}

/// The intervals as groups, the outer ones first, without those that are nested too deep.
fn numbered(found: &[Interval], names: &[&str]) -> Groups {
    let mut groups: Vec<Group> = Vec::with_capacity(found.len());
    // Of each interval: its group, and how deep that is.
    let mut places = vec![(0, 0); found.len()];
    let mut of_unit = vec![0; names.len()];
    for (number, interval) in found.iter().enumerate().rev() {
        let (parent, depth) = places[interval.parent];
        let is_root = interval.parent == number;
        if !is_root && depth == DEEPEST {
            places[number] = (parent, depth);
            continue;
        }
        let group = groups.len() as u32;
        places[number] = (group, if is_root { 0 } else { depth + 1 });
        groups.push(Group {
            parent,
            kind: match names.get(interval.first) {
                Some(name) if !is_root => kind_behind(&name[..interval.length]),
                _ => Kind::Root,
            },
            first: interval.first as u32,
            end: interval.end as u32,
        });
        of_unit[interval.first..interval.end].fill(group);
    }
    Groups { groups, of_unit }
}

/// How many bytes of two names are the same up to and including their last common separator.
fn shared(one: &str, other: &str) -> usize {
    let pairs = one.bytes().zip(other.bytes());
    let mut last = 0;
    for (at, (byte, _)) in pairs.take_while(|(a, b)| a == b).enumerate() {
        if is_separator(byte) {
            last = at + 1;
        }
    }
    last
}

/// ASCII only, so that no letter is cut.
fn is_separator(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_alphanumeric()
}

fn kind_behind(beginning: &str) -> Kind {
    match beginning.bytes().last() {
        None => Kind::Root,
        Some(b'/' | b':' | b'.' | b'\\') => Kind::Path,
        Some(b' ') => Kind::Title,
        Some(b'[' | b'(' | b'<' | b'{') => Kind::Parameter,
        Some(_) => Kind::Word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn beginnings(names: &[&str]) -> Vec<(String, u32, u32)> {
        let found = groups(names);
        let text = |group: &Group| {
            let same = names[group.first as usize..group.end as usize].iter();
            let common = same.fold(names[group.first as usize].len(), |length, name| {
                length.min(shared(names[group.first as usize], name))
            });
            names[group.first as usize][..common].to_owned()
        };
        let groups = found.groups.iter();
        groups
            .map(|group| (text(group), group.first, group.end))
            .collect()
    }

    #[test]
    fn a_group_is_what_begins_alike() {
        let names = ["a/x_1", "a/x_2", "a/y", "b/z[1]", "b/z[2]", "c"];
        let mut found = beginnings(&names);
        found.sort();
        let expected = [("", 0, 6), ("a/", 0, 3), ("a/x_", 0, 2), ("b/z[", 3, 5)];
        let expected: Vec<_> = expected
            .map(|(name, first, end)| (name.to_owned(), first, end))
            .to_vec();
        assert_eq!(found, expected);
        let groups = groups(&names);
        assert_eq!(groups.groups[0].kind, Kind::Root);
        let kind_of = |unit: usize| groups.groups[groups.of_unit[unit] as usize].kind;
        assert_eq!(
            [0, 2, 3, 5].map(kind_of),
            [Kind::Word, Kind::Path, Kind::Parameter, Kind::Root]
        );
    }

    #[test]
    fn nesting_has_an_end() {
        let names: Vec<String> = (1..200).map(|length| "a_".repeat(length)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = groups(&names);
        assert!(found.groups.len() <= DEEPEST as usize + 1);
        assert_eq!(
            (found.groups[0].first, found.groups[0].end as usize),
            (0, names.len())
        );
    }

    proptest! {
        #[test]
        fn a_unit_is_in_its_group_and_the_groups_around_it(names in prop::collection::btree_set("[ab]([/_\\[ ][ab]?){0,6}", 0..40)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let Groups { groups, of_unit } = groups(&names);
            for (unit, &group) in (0u32..).zip(&of_unit) {
                let group = groups[group as usize];
                prop_assert!(group.first <= unit && unit < group.end);
            }
            for (number, group) in groups.iter().enumerate().skip(1) {
                let around = groups[group.parent as usize];
                prop_assert!((group.parent as usize) < number);
                prop_assert!(around.first <= group.first && group.end <= around.end && group.end - group.first >= 2);
                // The suite may begin alike as a whole.
                prop_assert!(group.parent == 0 || around.end - around.first > group.end - group.first);
            }
            // Two names with a common beginning share the group that has it, unless that is nested too deep.
            for (at, pair) in names.windows(2).enumerate() {
                let length = shared(pair[0], pair[1]);
                let both = |group: &&Group| group.first as usize <= at && at + 1 < group.end as usize;
                let inner = groups.iter().rfind(both).expect("the root has both");
                let beginning = &names[inner.first as usize][..length.min(names[inner.first as usize].len())];
                prop_assert!(names[inner.first as usize..inner.end as usize].iter().all(|name| name.starts_with(beginning)));
            }
        }
    }
}
