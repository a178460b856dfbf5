//! Which shard a node is, and of how many: as it is told, else as its CI provider says.

use crate::exit::Failure;

/// The variables of a provider that runs a job several times.
struct Provider {
    name: &'static str,
    index: &'static str,
    /// The number of the first job.
    first: u32,
    total: &'static str,
}

const PROVIDERS: [Provider; 6] = [
    Provider {
        name: "GitLab",
        index: "CI_NODE_INDEX",
        first: 1,
        total: "CI_NODE_TOTAL",
    },
    Provider {
        name: "Buildkite",
        index: "BUILDKITE_PARALLEL_JOB",
        first: 0,
        total: "BUILDKITE_PARALLEL_JOB_COUNT",
    },
    Provider {
        name: "CircleCI",
        index: "CIRCLE_NODE_INDEX",
        first: 0,
        total: "CIRCLE_NODE_TOTAL",
    },
    Provider {
        name: "Semaphore",
        index: "SEMAPHORE_JOB_INDEX",
        first: 1,
        total: "SEMAPHORE_JOB_COUNT",
    },
    Provider {
        name: "Bitbucket",
        index: "BITBUCKET_PARALLEL_STEP",
        first: 0,
        total: "BITBUCKET_PARALLEL_STEP_COUNT",
    },
    Provider {
        name: "Azure Pipelines",
        index: "SYSTEM_JOBPOSITIONINPHASE",
        first: 1,
        total: "SYSTEM_TOTALJOBSINPHASE",
    },
];

/// No plan has more shards.
pub const MOST: u32 = 100_000;

/// What a node is to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    pub shards: u32,
    /// Counted from one; none: all shards.
    pub index: Option<u32>,
    /// The provider that said so.
    pub provider: Option<&'static str>,
}

impl Node {
    /// `variable` looks up one of the environment.
    pub fn find(
        shards: Option<u32>,
        index: Option<u32>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Node, Failure> {
        let node = match (shards, index) {
            (Some(shards), Some(_)) => Node {
                shards,
                index,
                provider: None,
            },
            (shards, index) => {
                let told = of_provider(variable)?;
                match (shards, told) {
                    (None, None) => {
                        return Err(Failure::usage("how many shards are there?").with_hint(
                            "name their number: --shards 4; in a CI job that runs several times it is read from the provider's variables",
                        ));
                    }
                    (None, Some(told)) => Node {
                        index: index.or(told.index),
                        ..told
                    },
                    (Some(shards), Some(told)) if told.shards != shards => {
                        return Err(Failure::usage(format!(
                            "--shards {shards} was given, and {} says that this is shard {} of {}",
                            told.provider.unwrap_or_default(),
                            told.index.unwrap_or_default(),
                            told.shards
                        ))
                        .with_hint("leave --shards out, or give --index, too"));
                    }
                    (Some(_), Some(told)) => told,
                    (Some(shards), None) => Node {
                        shards,
                        index: None,
                        provider: None,
                    },
                }
            }
        };
        if node.index == Some(0) {
            return Err(Failure::usage("there is no shard 0: they are counted from one")
                .with_hint("add one to a number that is counted from zero; the variables of CI providers are read right where --index is left out"));
        }
        match node.index {
            Some(index) if index > node.shards => Err(Failure::usage(format!(
                "there is no shard {index} of {}",
                node.shards
            ))
            .with_hint("shards are counted from one, and the last one is the number of shards")),
            _ => Ok(node),
        }
    }
}

fn of_provider(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Node>, Failure> {
    let mut found: Option<(&Provider, Node)> = None;
    for provider in &PROVIDERS {
        let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        // Some say how many there are also where a job runs once.
        let (Some(index), Some(total)) = (given(provider.index), given(provider.total)) else {
            continue;
        };
        let number = |name: &str, text: &str| {
            text.trim().parse::<u32>().map_err(|error| {
                Failure::usage(format!("{name} is {text:?}, which is no number"))
                    .caused_by(error)
                    .with_hint("give --shards and --index")
            })
        };
        let (position, total) = (
            number(provider.index, &index)?,
            number(provider.total, &total)?,
        );
        let inside = position >= provider.first && position - provider.first < total;
        if !inside || total > MOST {
            return Err(Failure::usage(format!(
                "{} is {position} and {} is {total}: {} counts from {}",
                provider.index, provider.total, provider.name, provider.first
            ))
            .with_hint("give --shards and --index"));
        }
        let node = Node {
            shards: total,
            index: Some(position - provider.first + 1),
            provider: Some(provider.name),
        };
        match &found {
            Some((other, before)) if (before.index, before.shards) != (node.index, node.shards) => {
                return Err(Failure::usage(format!(
                    "the variables of {} and of {} say different things",
                    other.name, provider.name
                ))
                .with_hint("give --shards and --index"));
            }
            Some(_) => {}
            None => found = Some((provider, node)),
        }
    }
    Ok(found.map(|(_, node)| node))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(
        shards: Option<u32>,
        index: Option<u32>,
        variables: &[(&str, &str)],
    ) -> Result<(u32, Option<u32>), String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let node = Node::find(shards, index, variable);
        let node = node.map(|node| (node.shards, node.index));
        node.map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_provider_is_read_as_it_counts() {
        for (index, first, total) in [
            ("CI_NODE_INDEX", 1, "CI_NODE_TOTAL"),
            ("BUILDKITE_PARALLEL_JOB", 0, "BUILDKITE_PARALLEL_JOB_COUNT"),
            ("CIRCLE_NODE_INDEX", 0, "CIRCLE_NODE_TOTAL"),
            ("SEMAPHORE_JOB_INDEX", 1, "SEMAPHORE_JOB_COUNT"),
            (
                "BITBUCKET_PARALLEL_STEP",
                0,
                "BITBUCKET_PARALLEL_STEP_COUNT",
            ),
            ("SYSTEM_JOBPOSITIONINPHASE", 1, "SYSTEM_TOTALJOBSINPHASE"),
        ] {
            for shard in 1..=3u32 {
                let position = (shard - 1 + first).to_string();
                let told = find(None, None, &[(index, &position), (total, "3")]);
                assert_eq!(told, Ok((3, Some(shard))), "{index}");
            }
            // One that counts the other way is noticed at one of its ends.
            let beyond = (3 + first).to_string();
            let told = find(None, None, &[(index, &beyond), (total, "3")]);
            assert!(
                told.is_err_and(|error| error.contains("counts from")),
                "{index}"
            );
        }
    }

    #[test]
    fn what_is_given_counts_before_what_a_provider_says_and_contradictions_are_told() {
        let gitlab = [("CI_NODE_INDEX", "2"), ("CI_NODE_TOTAL", "5")];
        assert_eq!(find(Some(3), Some(1), &gitlab), Ok((3, Some(1))));
        assert_eq!(find(None, Some(4), &gitlab), Ok((5, Some(4))));
        assert_eq!(find(Some(5), None, &gitlab), Ok((5, Some(2))));
        let told = find(Some(3), None, &gitlab);
        assert!(told.is_err_and(|error| error.contains("shard 2 of 5")));
        // GitLab says how many there are where a job runs once.
        assert_eq!(
            find(Some(3), None, &[("CI_NODE_TOTAL", "1")]),
            Ok((3, None))
        );
        assert_eq!(find(Some(3), None, &[]), Ok((3, None)));
        assert!(find(None, None, &[]).is_err());
        let both = [
            gitlab[0],
            gitlab[1],
            ("CIRCLE_NODE_INDEX", "0"),
            ("CIRCLE_NODE_TOTAL", "5"),
        ];
        assert!(find(None, None, &both).is_err_and(|error| error.contains("different things")));
        for (shards, index) in [(3, 0), (3, 4)] {
            let told = find(Some(shards), Some(index), &[]);
            assert!(told.is_err_and(|error| error.contains("there is no shard")));
        }
        let words = [("CI_NODE_INDEX", "two"), ("CI_NODE_TOTAL", "5")];
        assert!(find(None, None, &words).is_err_and(|error| error.contains("no number")));
    }
}
