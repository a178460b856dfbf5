//! Texts of attempts, read back from a run's store of outputs.

use crate::record::TextRef;
use crate::run::CaseText;
use evenkeel_proto::v1;
use prost::Message;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A run's store of outputs, open for reading. A run without any output has no file.
pub struct Outputs {
    file: Option<File>,
}

impl Outputs {
    pub fn open(path: &Path) -> std::io::Result<Outputs> {
        match File::open(path) {
            Ok(file) => Ok(Outputs { file: Some(file) }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Outputs { file: None })
            }
            Err(error) => Err(error),
        }
    }

    /// The text behind a reference. What is missing or damaged is said in its place: a report is still a report.
    pub fn read(&self, reference: &TextRef) -> CaseText {
        self.try_read(reference).unwrap_or_else(|reason| CaseText {
            detail: format!("[evenkeel: the stored output cannot be read: {reason}]"),
            ..CaseText::default()
        })
    }

    fn try_read(&self, reference: &TextRef) -> Result<CaseText, String> {
        let file = self.file.as_ref().ok_or("there is no store of outputs")?;
        let mut bytes = vec![0; reference.length as usize];
        file.read_exact_at(&mut bytes, reference.offset)
            .map_err(|error| error.to_string())?;
        if *blake3::hash(&bytes).as_bytes() != reference.digest {
            return Err("its digest does not match".to_owned());
        }
        let text = v1::CaseText::decode(&bytes[..]).map_err(|error| error.to_string())?;
        Ok(crate::wire::case_text(text))
    }
}
