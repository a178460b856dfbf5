//! Every exit code, and the errors that lead to one without a run. docs/cli.md is checked against this file.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Green: every planned test has a verdict and none failed.
    Green,
    /// Red: some test finally failed, whatever else happened.
    Red,
    /// Bad usage or configuration: nothing was run, and nothing would be by trying again.
    Usage,
    /// Incomplete: no failure, but some planned test has no verdict, or the infrastructure failed.
    Incomplete,
    /// Nothing ran: no test was found.
    NothingRan,
    /// Red: the tests could not be built.
    Unbuilt,
    /// Interrupted by a signal.
    Interrupted,
}

impl Exit {
    pub const ALL: [Exit; 7] = [
        Exit::Green,
        Exit::Red,
        Exit::Usage,
        Exit::Incomplete,
        Exit::NothingRan,
        Exit::Unbuilt,
        Exit::Interrupted,
    ];

    pub fn code(self) -> u8 {
        match self {
            Exit::Green => 0,
            Exit::Red => 1,
            Exit::Usage => 2,
            Exit::Incomplete => 3,
            Exit::NothingRan => 4,
            Exit::Unbuilt => 5,
            Exit::Interrupted => 130,
        }
    }

    /// The exit of a run that a coordinator closed with this code.
    pub fn of_run(code: u32) -> Exit {
        Exit::ALL
            .into_iter()
            .find(|exit| u32::from(exit.code()) == code)
            .unwrap_or(Exit::Incomplete)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

impl From<&Failure> for Exit {
    fn from(failure: &Failure) -> Exit {
        match failure.kind {
            Kind::Usage => Exit::Usage,
            Kind::Infrastructure => Exit::Incomplete,
        }
    }
}

#[derive(Debug)]
enum Kind {
    Usage,
    Infrastructure,
}

/// Why a subcommand could not do its work. The binary prints it with its causes and its hint.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// The user has to change something.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure {
            kind: Kind::Usage,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// Something that is not the user's doing.
    pub fn infrastructure(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Failure {
        Failure {
            kind: Kind::Infrastructure,
            message: message.into(),
            hint: None,
            source: Some(source.into()),
        }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        self.source = Some(source.into());
        self
    }

    /// Says it on standard error: the message, its causes, the hint.
    pub fn print(&self) {
        say!("error: {self}");
        let mut source = Error::source(self);
        while let Some(cause) = source {
            say!("  caused by: {cause}");
            source = cause.source();
        }
        if let Some(hint) = self.hint() {
            say!("hint: {hint}");
        }
    }

    /// Whether the user has to change something: trying again would change nothing.
    pub fn is_usage(&self) -> bool {
        matches!(self.kind, Kind::Usage)
    }

    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn Error + 'static))
    }
}
