//! The command with its holes: `mytool {units} --junit {junit}`.

use std::path::Path;

/// What the holes of a template are filled with.
pub(super) struct Filling<'a> {
    pub units: &'a [String],
    /// A file that holds a unit a line.
    pub units_file: &'a Path,
    /// A file, and a directory, for reports.
    pub junit: &'a Path,
    pub junit_directory: &'a Path,
}

/// The holes that a template may have.
const HOLES: [&str; 5] = [
    "{units}",
    "{unit}",
    "{units_file}",
    "{junit}",
    "{junit_dir}",
];

/// Why a template cannot be used, in words for the user.
pub(super) fn check(template: &[String], has_results: bool) -> Result<(), String> {
    let has = |hole: &str| template.iter().any(|word| word.contains(hole));
    if !has("{junit}") && !has("{junit_dir}") && !has_results {
        return Err("the command does not say where its report goes: write {junit} (a file) or {junit_dir} (a directory) where it takes that, or set results to where it writes".to_owned());
    }
    for word in template {
        let mut rest = word.as_str();
        while let Some(begin) = rest.find('{') {
            rest = &rest[begin..];
            let Some(end) = rest.find('}') else { break };
            let hole = &rest[..=end];
            let is_name = hole[1..end]
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '_');
            if is_name && end > 1 && !HOLES.contains(&hole) {
                let known = HOLES.join(", ");
                return Err(format!(
                    "{hole} in the command stands for nothing; there are {known}"
                ));
            }
            rest = &rest[end + 1..];
        }
    }
    if !["{unit}", "{units}", "{units_file}"].into_iter().any(has) {
        return Err("the command does not take units: write {units}, {unit} or {units_file} where it takes what it is to run".to_owned());
    }
    Ok(())
}

/// Whether a template takes one unit at a time.
pub(super) fn takes_one(words: &[String]) -> bool {
    words.iter().any(|word| word.contains("{unit}"))
}

/// Whether all units stand on the command line.
pub(super) fn takes_words(template: &[String]) -> bool {
    template.iter().any(|word| word.contains("{units}"))
}

impl Filling<'_> {
    /// The words of the command. A word that is `{units}` becomes a word for each; within a word they are parted by spaces.
    pub(super) fn words(&self, template: &[String]) -> Vec<String> {
        let mut words = Vec::new();
        for word in template {
            if word == "{units}" {
                words.extend(self.units.iter().cloned());
            } else {
                words.push(self.fill(word));
            }
        }
        words
    }

    pub(super) fn fill(&self, text: &str) -> String {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let first = self.units.first().map_or("", String::as_str);
        text.replace("{units}", &self.units.join(" "))
            .replace("{unit}", first)
            .replace("{units_file}", &path(self.units_file))
            .replace("{junit}", &path(self.junit))
            .replace("{junit_dir}", &path(self.junit_directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn holes_are_filled_with_words_and_within_words() {
        let units = ["a b".to_owned(), "c".to_owned()];
        let filling = Filling {
            units: &units,
            units_file: Path::new("/t/units"),
            junit: Path::new("/t/junit.xml"),
            junit_directory: Path::new("/t/junit"),
        };
        let filled = filling.words(&words(
            "tool {units} --all={units} @{units_file} -o {junit} {x} {junit_dir}/r",
        ));
        let expected = [
            "tool",
            "a b",
            "c",
            "--all=a b c",
            "@/t/units",
            "-o",
            "/t/junit.xml",
            "{x}",
            "/t/junit/r",
        ];
        assert_eq!(filled, expected);
    }

    #[test]
    fn a_template_without_a_report_or_with_a_wrong_hole_is_refused() {
        assert!(check(&words("tool {units} {junit}"), false).is_ok());
        assert!(check(&words("tool {units}"), true).is_ok());
        assert!(check(&words("tool {junit}"), false).is_err_and(|said| said.contains("{units}")));
        assert!(check(&words("tool {units}"), false).is_err_and(|said| said.contains("{junit}")));
        assert!(
            check(&words("tool {files} {junit}"), false)
                .is_err_and(|said| said.contains("{files}"))
        );
        assert!(check(&words("sh -c {print$1} {junit} {unit}"), false).is_ok());
    }
}
