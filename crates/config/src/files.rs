//! Which configuration files are read, and how they are reached.

use std::io;
use std::path::Path;

use crate::error::{ConfigError, ErrorClass};
use crate::given::Given;
use crate::ini::Ini;
use crate::opt;

/// File name within the configuration directory.
const FILE: &str = "pgbackrest.conf";
/// Include directory within the configuration directory.
const INCLUDE: &str = "conf.d";
const DEFAULT_FILE: &str = "/etc/pgbackrest/pgbackrest.conf";
const DEFAULT_INCLUDE: &str = "/etc/pgbackrest/conf.d";
/// Where the file was before there was a directory; looked at when the default file is missing.
const FORMER_FILE: &str = "/etc/pgbackrest.conf";

/// Largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Access to configuration files. A missing file is a fact and not an error; anything else that goes wrong is one.
pub trait ConfigFiles {
    /// The content, or `None` when the file does not exist.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Names in a directory in any order, or `None` when it does not exist.
    fn list(&self, path: &str) -> io::Result<Option<Vec<String>>>;
}

/// Files of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostFiles;

impl ConfigFiles for HostFiles {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        use io::Read as _;

        let Some(file) = present(std::fs::File::open(path))? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
        if u64::try_from(content.len()).is_ok_and(|size_bytes| size_bytes > FILE_BYTES_MAX) {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {FILE_BYTES_MAX} bytes")));
        }
        Ok(Some(content))
    }

    fn list(&self, path: &str) -> io::Result<Option<Vec<String>>> {
        let Some(entries) = present(std::fs::read_dir(Path::new(path)))? else { return Ok(None) };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is no text cannot end in `.conf` as pgBackRest's pattern means it.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(Some(names))
    }
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// No files at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl ConfigFiles for NoFiles {
    fn read(&self, _path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn list(&self, _path: &str) -> io::Result<Option<Vec<String>>> {
        Ok(None)
    }
}

/// Which files the options ask for.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    main: Option<Place>,
    include: Option<Place>,
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    path: String,
    required: bool,
}

/// Reads what `config`, `config-path` and `config-include-path` ask for. `None` when there is no file at all.
pub(crate) fn load(given: &Given, files: &dyn ConfigFiles) -> Result<Option<Ini>, ConfigError> {
    let places = places(given);
    let mut ini = Ini::default();
    let mut any = false;

    if let Some(place) = &places.main {
        let mut content = read(files, &place.path, place.required)?;
        if content.is_none() && place.path == DEFAULT_FILE {
            content = read(files, FORMER_FILE, place.required)?;
        }
        if let Some(content) = content {
            ini.add(&content)?;
            any = true;
        }
    }
    if let Some(place) = &places.include {
        for name in include_names(files, place)? {
            if let Some(content) = read(files, &format!("{}/{name}", place.path), false)? {
                ini.add(&content)?;
                any = true;
            }
        }
    }
    Ok(any.then_some(ini))
}

/// A file named in so many words has to be there, and then nothing else is read; a path alone moves the defaults.
fn places(given: &Given) -> Places {
    let config = given.find(opt::CONFIG.row(), 0);
    let config_path = given.find(opt::CONFIG_PATH.row(), 0).and_then(|path| path.values.first());
    let include_path = given.find(opt::CONFIG_INCLUDE_PATH.row(), 0).and_then(|path| path.values.first());

    let (default_file, default_include) = match config_path {
        Some(path) => (format!("{path}/{FILE}"), format!("{path}/{INCLUDE}")),
        None => (DEFAULT_FILE.to_owned(), DEFAULT_INCLUDE.to_owned()),
    };
    let main = match config {
        Some(config) if config.negated => None,
        Some(config) => config.values.first().map(|path| Place { path: path.clone(), required: true }),
        None => Some(Place { path: default_file, required: false }),
    };
    let include = match include_path {
        Some(path) => Some(Place { path: path.clone(), required: true }),
        None if config.is_some() && config_path.is_none() => None,
        None => Some(Place { path: default_include, required: false }),
    };
    Places { main, include }
}

fn include_names(files: &dyn ConfigFiles, place: &Place) -> Result<Vec<String>, ConfigError> {
    let names = files.list(&rooted(&place.path)).map_err(|error| {
        let message = format!("unable to list file info for path '{}': {}", place.path, fault(&error));
        ConfigError::new(ErrorClass::PathOpen, message)
    })?;
    if names.is_none() && place.required {
        let message = format!("unable to list file info for missing path '{}'", place.path);
        return Err(ConfigError::new(ErrorClass::PathMissing, message));
    }
    let mut names = names.unwrap_or_default();
    names.retain(|name| name.len() > ".conf".len() && name.ends_with(".conf"));
    names.sort_unstable();
    Ok(names)
}

fn read(files: &dyn ConfigFiles, path: &str, required: bool) -> Result<Option<String>, ConfigError> {
    let path = rooted(path);
    let content = files.read(&path).map_err(|error| {
        let fault = fault(&error);
        if error.kind() == io::ErrorKind::PermissionDenied {
            ConfigError::new(ErrorClass::FileOpen, format!("unable to open file '{path}' for read: {fault}"))
        } else {
            ConfigError::new(ErrorClass::FileRead, format!("unable to read '{path}': {fault}"))
        }
    })?;
    match content {
        Some(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| ConfigError::new(ErrorClass::Format, format!("file '{path}' is not text in UTF-8"))),
        None if required => {
            let message = format!("unable to open missing file '{path}' for read");
            Err(ConfigError::new(ErrorClass::FileMissing, message))
        }
        None => Ok(None),
    }
}

/// The system's error as pgBackRest writes it: number, then text.
fn fault(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => format!("[{number}] {}", text.split(" (os error").next().unwrap_or(&text)),
        None => text,
    }
}

/// pgBackRest takes paths from the root, whatever directory it runs in.
fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given::{GivenValue, Source};

    fn options(pairs: &[(&str, &str)]) -> Given {
        let mut given = Given::default();
        for (name, value) in pairs {
            let row = opt::row(name.trim_start_matches("no-")).unwrap();
            let negated = name.starts_with("no-");
            let values = if negated { vec![] } else { vec![(*value).to_owned()] };
            given.insert(row, 0, GivenValue { source: Source::Argument, negated, reset: false, values });
        }
        given
    }

    /// Path, and whether it is required.
    type Plain = Option<(String, bool)>;

    fn named(pairs: &[(&str, &str)]) -> (Plain, Plain) {
        let places = places(&options(pairs));
        let plain = |place: Option<Place>| place.map(|place| (place.path, place.required));
        (plain(places.main), plain(places.include))
    }

    fn place(path: &str, required: bool) -> Plain {
        Some((path.to_owned(), required))
    }

    #[test]
    fn places_follow_the_three_options() {
        assert_eq!(named(&[]), (place(DEFAULT_FILE, false), place(DEFAULT_INCLUDE, false)));
        assert_eq!(named(&[("config", "/f")]), (place("/f", true), None));
        assert_eq!(named(&[("config", "/f"), ("config-path", "/p")]), (place("/f", true), place("/p/conf.d", false)));
        assert_eq!(named(&[("config-include-path", "/i")]), (place(DEFAULT_FILE, false), place("/i", true)));
        assert_eq!(named(&[("config-path", "/p")]), (place("/p/pgbackrest.conf", false), place("/p/conf.d", false)));
        assert_eq!(named(&[("config", "/f"), ("config-include-path", "/i")]), (place("/f", true), place("/i", true)));
        assert_eq!(named(&[("no-config", "")]), (None, None));
        assert_eq!(named(&[("no-config", ""), ("config-path", "/p")]), (None, place("/p/conf.d", false)));
        assert_eq!(named(&[("no-config", ""), ("config-include-path", "/i")]), (None, place("/i", true)));
    }

    #[test]
    fn directories_are_read_in_order_and_other_names_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap().to_owned();
        for (name, text) in [("b.conf", "[g]\nk=2"), ("a.conf", "[g]\nk=1"), (".conf", "broken"), ("c.txt", "broken")] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let given = options(&[("no-config", ""), ("config-include-path", &path)]);
        let ini = load(&given, &HostFiles).unwrap().unwrap();
        assert_eq!(ini.section("g"), [("k".to_owned(), vec!["1".to_owned(), "2".to_owned()])]);
    }

    #[test]
    fn trouble_is_not_absence() {
        struct Trouble(io::ErrorKind);

        impl ConfigFiles for Trouble {
            fn read(&self, _path: &str) -> io::Result<Option<Vec<u8>>> {
                Err(self.0.into())
            }

            fn list(&self, _path: &str) -> io::Result<Option<Vec<String>>> {
                Err(self.0.into())
            }
        }

        let class = |kind, given: &Given| load(given, &Trouble(kind)).err().map(|error| error.class);
        let include = options(&[("no-config", ""), ("config-path", "/p")]);
        assert_eq!(class(io::ErrorKind::PermissionDenied, &Given::default()), Some(ErrorClass::FileOpen));
        assert_eq!(class(io::ErrorKind::Other, &Given::default()), Some(ErrorClass::FileRead));
        assert_eq!(class(io::ErrorKind::PermissionDenied, &include), Some(ErrorClass::PathOpen));
    }

    #[test]
    fn what_was_named_has_to_exist() {
        let class = |pairs: &[(&str, &str)]| load(&options(pairs), &HostFiles).err().map(|error| error.class);
        assert_eq!(class(&[("config", "/nonexistent/file")]), Some(ErrorClass::FileMissing));
        assert_eq!(class(&[("config-include-path", "/nonexistent/path")]), Some(ErrorClass::PathMissing));
        assert_eq!(class(&[("config-path", "/nonexistent/path")]), None);
    }
}
