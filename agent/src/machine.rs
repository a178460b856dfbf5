//! What is told of the machine that an agent is on.

/// Empty where it is not known.
pub(crate) fn cpu_model() -> String {
    use std::io::BufRead;
    let Ok(file) = std::fs::File::open("/proc/cpuinfo") else {
        return String::new();
    };
    let lines = std::io::BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .take(16);
    let mut models = lines.filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    models.next().unwrap_or_default()
}

/// The name of this machine, empty where it has none.
pub(crate) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
