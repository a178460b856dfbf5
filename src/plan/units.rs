//! What is to be planned: names that were given, or what a suite's framework lists.

use crate::agent::cache_directory;
use crate::cli::PlanArgs;
use crate::config::Place;
use crate::exit::Failure;
use crate::suites;
use evenkeel_agent::ListError;
use evenkeel_coordinator::report::Naming;
use evenkeel_coordinator::shards::Listed;
use evenkeel_proto::suite::Suite;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Units and the suites that they are of.
pub struct Units {
    pub listed: Vec<Listed>,
    /// What is configured for them; empty where names were given.
    pub suites: Vec<Suite>,
    /// How durations of each suite are found.
    pub named: Vec<Named>,
}

pub struct Named {
    pub suite: Option<String>,
    pub naming: Naming,
    pub directory: PathBuf,
}

/// None where the tests cannot be built, which has been said then.
pub async fn of(args: &PlanArgs, place: &Place) -> Result<Option<Units>, Failure> {
    if args.units.is_empty() {
        return listed(args, place).await;
    }
    if !args.what.command.is_empty() {
        return Err(Failure::usage("units and a command were given")
            .with_hint("leave one of them out: the command behind -- lists its units by itself"));
    }
    let names = match &args.units[..] {
        [only] if only == "-" => read()?,
        names => names.to_vec(),
    };
    given(args, place, &names).map(Some)
}

/// Names from standard input: with NUL characters between them, else one a line.
fn read() -> Result<Vec<String>, Failure> {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).map_err(|error| {
        Failure::usage("cannot read the units from standard input").caused_by(error)
    })?;
    let text = String::from_utf8(text).map_err(|error| {
        Failure::usage("the units on standard input are no UTF-8").caused_by(error)
    })?;
    let names: Vec<&str> = match text.contains('\0') {
        true => text.split('\0').collect(),
        false => text.lines().map(str::trim_end).collect(),
    };
    let names = names.into_iter().filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

fn given(args: &PlanArgs, place: &Place, names: &[String]) -> Result<Units, Failure> {
    let root = &place.root;
    let mut listed = Vec::with_capacity(names.len());
    for name in names {
        let name = plain(name, root);
        let found = std::fs::metadata(root.join(&name));
        if found.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
            return Err(Failure::usage(format!("{name} is a directory")).with_hint(
                "name the files in it, for example: find tests -name 'test_*.py' | evenkeel plan -; or give the suite's command, which lists them: evenkeel plan -- pytest tests",
            ));
        }
        listed.push(Listed {
            suite: 0,
            name,
            path: String::new(),
            size: found.map_or(0, |found| found.len()),
        });
    }
    let python = !listed.is_empty() && listed.iter().all(|unit| unit.name.ends_with(".py"));
    let naming = match args.what.runner.as_deref() {
        Some(runner) => naming(runner),
        None if python => Naming::Pytest,
        None => Naming::Files,
    };
    if let Some(second) = args.what.suite.get(1) {
        return Err(
            Failure::usage(format!("--suite {second} and another one were given"))
                .with_hint("units that are named are of one suite"),
        );
    }
    let configured = place.found.as_ref().map(|found| found.config.suites());
    let only = configured.filter(|suites| suites.len() == 1);
    let only = only.map(|suites| suites[0].0.to_owned());
    Ok(Units {
        listed,
        suites: Vec::new(),
        named: vec![Named {
            suite: args.what.suite.first().cloned().or(only),
            naming,
            directory: root.clone(),
        }],
    })
}

/// A path as it is from the root, however it was written; what is no path stays as it is.
fn plain(name: &str, root: &Path) -> String {
    let path = Path::new(name);
    let inside = path.strip_prefix(root).unwrap_or(path);
    let simple = inside
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !simple {
        return name.to_owned();
    }
    let parts = inside
        .components()
        .filter(|part| *part != Component::CurDir);
    let plain: PathBuf = parts.collect();
    match plain.to_str() {
        Some(plain) if !plain.is_empty() => plain.to_owned(),
        _ => name.to_owned(),
    }
}

fn naming(runner: &str) -> Naming {
    match runner {
        "pytest" => Naming::Pytest,
        "cargo" => Naming::Cargo,
        _ => Naming::Files,
    }
}

async fn listed(args: &PlanArgs, place: &Place) -> Result<Option<Units>, Failure> {
    let (suites, _) = suites::of_run(&args.what, place).map_err(|failure| {
        let named = !args.what.command.is_empty() || place.found.is_some();
        match named {
            true => failure,
            false => Failure::usage("nothing is named that could be planned").with_hint(
                "give files, - for a list on standard input, or the suite's command: evenkeel plan --shards 4 -- pytest tests",
            ),
        }
    })?;
    let binary = std::env::current_exe()
        .map_err(|error| Failure::infrastructure("the path of this program is not known", error))?;
    let cache = cache_directory();
    let mut units = Vec::new();
    for (number, suite) in (0..).zip(&suites) {
        let warn = |text: &str| say!("warning: {text}");
        match evenkeel_agent::list(suite, &cache, &binary, warn).await {
            Ok(listed) => units.extend(listed.into_iter().map(|unit| Listed {
                suite: number,
                name: unit.name,
                path: unit.path,
                size: unit.size,
            })),
            Err(ListError::Refused {
                message,
                detail,
                unbuilt: true,
                ..
            }) => {
                say!("error: suite {}: {message}", suite.name);
                if !detail.is_empty() {
                    say!("{}", detail.trim_end());
                }
                return Ok(None);
            }
            Err(error) => return Err(unlisted(suite, error)),
        }
    }
    let named = suites.iter().map(|suite| Named {
        suite: Some(suite.name.clone()),
        naming: naming(&suite.runner),
        directory: PathBuf::from(&suite.directory),
    });
    Ok(Some(Units {
        listed: units,
        named: named.collect(),
        suites,
    }))
}

fn unlisted(suite: &Suite, error: ListError) -> Failure {
    let message = format!("suite {} could not be listed", suite.name);
    match error {
        ListError::Refused { ref hint, .. } if hint.is_empty() => {
            Failure::usage(message).caused_by(error)
        }
        ListError::Refused { ref hint, .. } => {
            let hint = hint.clone();
            Failure::usage(message).caused_by(error).with_hint(hint)
        }
        error => Failure::infrastructure(message, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_name_however_it_is_written() {
        for (written, name) in [
            ("tests/a.py", "tests/a.py"),
            ("./tests/a.py", "tests/a.py"),
            ("tests//./a.py", "tests/a.py"),
            ("/srv/shop/tests/a.py", "tests/a.py"),
            ("/elsewhere/a.py", "/elsewhere/a.py"),
            ("../a.py", "../a.py"),
            ("shop::cart", "shop::cart"),
        ] {
            assert_eq!(plain(written, Path::new("/srv/shop")), name);
        }
    }
}
