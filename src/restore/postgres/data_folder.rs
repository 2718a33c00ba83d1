//! A server's data folder that is filled from a backup before the server ever starts: in a container of the service's
//! image, without a network.

use std::collections::BTreeMap;

use super::settings;
use crate::engine::{VolumeAt, VolumeFacts};
use crate::event::Owner;
use crate::restore::server::mounts;
use crate::restore::{Deadline, Site, Toolbox};
use crate::staging::{Bad, Blueprint};

/// Where images keep their data when they do not say so.
const PGDATA: &str = "/var/lib/postgresql/data";
/// Below the data folder: tablespaces, which lie elsewhere in production.
pub(super) const TABLESPACES: &str = "rehearse_tablespaces";
/// The first version whose recovery is set up by settings.
const OLDEST: u32 = 12;
/// No configuration file is larger.
const MAX_FILE: usize = 16 << 20;

/// What a container of the image knows of itself: its server's user, programs and version.
const PROBE: &str = r#"
for d in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin /opt/bitnami/postgresql/bin; do
    [ ! -d "$d" ] || PATH=$PATH:$d
done
command -v postgres >/dev/null || { echo "postgres: not found" >&2; exit 127; }
echo "rehearse-path $PATH"
echo "rehearse-user $(id -u "$1"):$(id -g "$1")"
echo "rehearse-version $(postgres --version)"
mkdir -p "$2"
find "$2" -mindepth 1 -delete
"#;

/// What no server may find in the data folder of another.
const LEFT: &str = r#"
cd "$1"
rm -f postmaster.pid postmaster.opts standby.signal
chown -R "$2" .
chmod -R u+rwX,go-rwx .
"#;

/// A data folder in the making.
pub(super) struct Cluster<'a> {
    /// In the service's image, as root.
    pub(super) tool: Toolbox<'a>,
    /// The data folder in it.
    pub(super) data: String,
    /// The volume that holds the data folder, and the folder's path below the volume's root: `""` or `/a/b`.
    pub(super) volume: (String, String),
    /// The server's user: `uid:gid`.
    pub(super) user: String,
    /// The server's major version.
    pub(super) major: u32,
    /// The restore's name.
    pub(super) restore: String,
    /// What the report says besides.
    pub(super) notes: Vec<String>,
}

impl<'a> Cluster<'a> {
    /// Opens the container and empties the data folder. `more` is mounted besides.
    pub(super) async fn open(
        site: Site<'a>,
        blueprint: &Blueprint,
        volumes: &BTreeMap<String, VolumeFacts>,
        more: Vec<VolumeAt>,
        restore: &str,
        deadline: Deadline,
    ) -> Result<Self, Bad> {
        let service = &blueprint.service;
        let data = data_folder(blueprint);
        let mut at = mounts(blueprint, volumes);
        let volume = holder(&at, &data).ok_or_else(|| {
            Bad::new(
                Owner::Stack,
                format!("the data folder `{data}` of service `{}` lies in none of its volumes", service.name),
            )
            .with_help("mount a named volume there, or say with the variable PGDATA where the data folder is")
        })?;
        at.extend(more);
        let name = format!("physical-{}", service.name);
        let source = format!("restore {restore}");
        let mut tool =
            Toolbox::open(site.staging, &name, &blueprint.image, at, source, deadline).await?;
        let user = service.user.as_deref().map_or("postgres", |user| {
            user.split(':').next().unwrap_or("postgres")
        });
        let user_is_number = user.bytes().all(|byte| byte.is_ascii_digit());
        let asked = if user_is_number { "0" } else { user };
        let said = tool
            .script("postgres", PROBE, &[asked, &data], Owner::Stack)
            .await?
            .stdout;
        let value = |key: &str| {
            said.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let version = value("rehearse-version");
        let major = major(&version).ok_or_else(|| {
            Bad::new(
                Owner::Stack,
                format!(
                    "`postgres --version` in the image of `{}` says `{version}`",
                    service.name
                ),
            )
        })?;
        if major < OLDEST {
            return Err(Bad::new(
                Owner::Stack,
                format!(
                    "{restore}: base backups and repositories are restored from PostgreSQL {OLDEST} on; the image has {major}"
                ),
            ));
        }
        tool.environment
            .insert("PATH".to_owned(), value("rehearse-path"));
        let user = match (&service.user, user_is_number) {
            (Some(given), true) if given.contains(':') => given.clone(),
            (Some(given), true) => format!("{given}:0"),
            (_, _) => value("rehearse-user"),
        };
        Ok(Self {
            tool,
            data,
            volume,
            user,
            major,
            restore: restore.to_owned(),
            notes: Vec::new(),
        })
    }

    /// Hands the filled folder to the server's user, and compares its version with the image's.
    pub(super) async fn filled(&self) -> Result<(), Bad> {
        let version = format!("{}/PG_VERSION", self.data);
        let missing = |what: &str| {
            Bad::new(
                Owner::Backup,
                format!(
                    "{}: the backup is no data folder of PostgreSQL: {what}",
                    self.restore
                ),
            )
        };
        let outcome = self.tool.run(&["cat", &version]).await?;
        let written = outcome.stdout.trim().to_owned();
        if outcome.exit_code != 0 {
            return Err(missing("it has no PG_VERSION"));
        }
        let of_backup: u32 = written
            .parse()
            .map_err(|_| missing(&format!("its PG_VERSION says `{written}`")))?;
        if of_backup != self.major {
            return Err(Bad::new(
                Owner::Stack,
                format!(
                    "{}: the backup is of PostgreSQL {of_backup}, the service's image has {}",
                    self.restore, self.major
                ),
            )
            .with_help("use the same major version of PostgreSQL as production in the stack: a data folder fits no other"));
        }
        self.tool
            .script("chown", LEFT, &[&self.data, &self.user], Owner::Engine)
            .await?;
        Ok(())
    }

    /// Runs a program as the server's user, whatever its exit code is.
    pub(super) async fn as_server(
        &self,
        command: &[&str],
    ) -> Result<crate::engine::ExecOutcome, Bad> {
        self.tool.run_as(command, Some(&self.user)).await
    }

    /// What `pg_controldata` says of the folder. A control file that is not whole is the backup's fault.
    pub(super) async fn control(&self) -> Result<String, Bad> {
        let outcome = self
            .as_server(&["pg_controldata", "-D", &self.data])
            .await?;
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        if outcome.exit_code != 0 {
            return Err(self.tool.failed("pg_controldata", &outcome, Owner::Backup));
        }
        // It goes on after a warning; its figures are worth nothing then.
        if said.contains("Calculated CRC checksum does not match")
            || said.contains("invalid WAL segment size")
            || said.contains("possible byte ordering mismatch")
        {
            return Err(Bad::new(
                Owner::Backup,
                format!(
                    "{}: global/pg_control is damaged: {}",
                    self.restore,
                    outcome.last_words()
                ),
            ));
        }
        Ok(outcome.stdout)
    }

    /// A small file of the data folder as text; `None` where it is not there. It is not shown: a setting may hold a
    /// password.
    pub(super) async fn read(&self, below: &str) -> Result<Option<String>, Bad> {
        let path = format!("{}/{below}", self.data);
        let engine = &self.tool.staging.ground.engine;
        let tar = match engine.download(&self.tool.container, &path, MAX_FILE).await {
            Ok(tar) => tar,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let read = || -> std::io::Result<String> {
            let mut text = Vec::new();
            if let Some(entry) = tar::Archive::new(tar.as_slice()).entries()?.next() {
                std::io::Read::read_to_end(&mut entry?, &mut text)?;
            }
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        read().map(Some).map_err(|error| {
            Bad::new(
                Owner::Engine,
                format!("cannot read `{path}` of the container: {error}"),
            )
        })
    }

    /// Writes a small file of the data folder, which belongs to the server's user.
    pub(super) async fn write(&self, below: &str, text: String) -> Result<(), Bad> {
        let engine = &self.tool.staging.ground.engine;
        let (uid, gid) = self.user.split_once(':').unwrap_or(("0", "0"));
        let (uid, gid) = (uid.parse().unwrap_or(0), gid.parse().unwrap_or(0));
        let name = below.to_owned();
        engine
            .upload_tar(
                &self.tool.container,
                &self.data,
                move |out| -> std::io::Result<()> {
                    let mut header = tar::Header::new_gnu();
                    header.set_size(text.len() as u64);
                    header.set_mode(0o600);
                    header.set_uid(uid);
                    header.set_gid(gid);
                    let mut tar = tar::Builder::new(out);
                    tar.append_data(&mut header, name, text.as_bytes())?;
                    tar.finish()
                },
            )
            .await?;
        Ok(())
    }

    /// Sets again what must not act in staging, and writes what a cluster that keeps its configuration elsewhere lacks.
    pub(super) async fn quieten(&mut self, control: &str) -> Result<(), Bad> {
        let mut conf = match self.read("postgresql.conf").await? {
            Some(conf) => self.with_its_includes(conf).await?,
            None => {
                self.notes.push(
                    "no postgresql.conf in it (Debian keeps it in /etc): the image's defaults"
                        .to_owned(),
                );
                let sizes = settings::sizes(control);
                settings::lines(&sizes)
            }
        };
        let mut quiet = settings::quiet(self.major);
        quiet.push(("hba_file", format!("{}/pg_hba.conf", self.data)));
        quiet.push(("ident_file", format!("{}/pg_ident.conf", self.data)));
        if let Some(folders) = self.default_of("unix_socket_directories").await? {
            quiet.push(("unix_socket_directories", folders));
        }
        // After a crash only this volume is flushed, without opening every file: on an overlay that would be slow.
        if self.major >= 14 && self.understands("recovery_init_sync_method=syncfs").await? {
            quiet.push(("recovery_init_sync_method", "syncfs".to_owned()));
        }
        conf.push_str(&settings::lines(&quiet));
        // The one setting that is read only here.
        conf.push_str(&format!("data_directory = '{}'\n", self.data));
        self.write("postgresql.conf", conf).await?;
        let auto = self.read("postgresql.auto.conf").await?.unwrap_or_default();
        let auto = settings::without(&auto, &settings::targets(&auto));
        self.write(
            "postgresql.auto.conf",
            format!("{auto}{}", settings::lines(&quiet)),
        )
        .await?;
        let hba = self.read("pg_hba.conf").await?.unwrap_or_default();
        self.write("pg_hba.conf", settings::hba(&hba)).await?;
        if self.read("pg_ident.conf").await?.is_none() {
            self.write("pg_ident.conf", String::new()).await?;
        }
        self.certificates().await
    }

    /// Leaves out includes of files that were not backed up with the folder.
    async fn with_its_includes(&mut self, conf: String) -> Result<String, Bad> {
        let mut absent = Vec::new();
        for include in settings::includes(&conf) {
            let path = if include.path.starts_with('/') {
                include.path.clone()
            } else {
                format!("{}/{}", self.data, include.path)
            };
            if self.as_server(&["test", "-r", &path]).await?.exit_code != 0 {
                self.notes.push(format!(
                    "postgresql.conf includes `{}`, which is not there",
                    include.path
                ));
                absent.push(include.line);
            }
        }
        absent.extend(settings::targets(&conf));
        Ok(settings::without(&conf, &absent))
    }

    /// Encryption of connections is off where production's certificates are not part of the backup.
    async fn certificates(&mut self) -> Result<(), Bad> {
        if self.value_of("ssl").await? != "on" {
            return Ok(());
        }
        for name in [
            "ssl_cert_file",
            "ssl_key_file",
            "ssl_ca_file",
            "ssl_crl_file",
        ] {
            let path = self.value_of(name).await?;
            if path.is_empty() {
                continue;
            }
            let whole = if path.starts_with('/') {
                path.clone()
            } else {
                format!("{}/{path}", self.data)
            };
            if self.as_server(&["test", "-r", &whole]).await?.exit_code != 0 {
                self.notes.push(format!("ssl off: `{path}` is not there"));
                let auto = self.read("postgresql.auto.conf").await?.unwrap_or_default();
                return self
                    .write("postgresql.auto.conf", format!("{auto}ssl = 'off'\n"))
                    .await;
            }
        }
        Ok(())
    }

    /// What a setting is now, by the server's own reading of its files.
    async fn value_of(&self, name: &str) -> Result<String, Bad> {
        let outcome = self
            .as_server(&["postgres", "-D", &self.data, "-C", name])
            .await?;
        if outcome.exit_code != 0 {
            let bad = super::recovery::failed(&self.restore, &outcome.stderr);
            // What it cannot even read is configuration.
            let owner = if bad.owner == Owner::Backup {
                Owner::Stack
            } else {
                bad.owner
            };
            return Err(Bad { owner, ..bad });
        }
        Ok(outcome.stdout.trim().to_owned())
    }

    /// What the image's build uses where no file says otherwise.
    async fn default_of(&self, name: &str) -> Result<Option<String>, Bad> {
        let outcome = self
            .as_server(&[
                "postgres",
                "-D",
                &self.data,
                "-c",
                "config_file=/dev/null",
                "-C",
                name,
            ])
            .await?;
        let value = outcome.stdout.trim().to_owned();
        Ok((outcome.exit_code == 0 && !value.is_empty()).then_some(value))
    }

    /// Whether the image's build knows a setting's value.
    async fn understands(&self, setting: &str) -> Result<bool, Bad> {
        let outcome = self
            .as_server(&[
                "postgres",
                "-D",
                &self.data,
                "-c",
                "config_file=/dev/null",
                "-c",
                setting,
                "-C",
                "port",
            ])
            .await?;
        Ok(outcome.exit_code == 0)
    }
}

/// Where a service keeps its data.
fn data_folder(blueprint: &Blueprint) -> String {
    let of_image = || {
        blueprint
            .facts
            .environment
            .iter()
            .find_map(|variable| variable.strip_prefix("PGDATA="))
            .map(str::to_owned)
    };
    blueprint
        .service
        .environment
        .get("PGDATA")
        .cloned()
        .or_else(of_image)
        .filter(|path| path.starts_with('/'))
        .map_or_else(
            || PGDATA.to_owned(),
            |path| path.trim_end_matches('/').to_owned(),
        )
}

/// The volume in which a path lies, and where in it.
fn holder(mounts: &[VolumeAt], path: &str) -> Option<(String, String)> {
    mounts
        .iter()
        .filter(|at| !at.read_only)
        .filter_map(|at| {
            let target = at.target.trim_end_matches('/');
            let below = path.strip_prefix(target)?;
            (below.is_empty() || below.starts_with('/')).then_some((target.len(), at, below))
        })
        .max_by_key(|(length, _, _)| *length)
        .map(|(_, at, below)| (at.volume.clone(), below.to_owned()))
}

/// `postgres (PostgreSQL) 15.14 (Debian ..)`, also `16beta1`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, expected) in [
            (
                "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)",
                Some(15),
            ),
            ("postgres (PostgreSQL) 16beta1", Some(16)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("MariaDB", None),
        ] {
            assert_eq!(major(text), expected, "{text}");
        }
    }

    #[test]
    fn the_innermost_volume_holds_the_data() {
        let at = |volume: &str, target: &str| VolumeAt {
            volume: volume.to_owned(),
            target: target.to_owned(),
            read_only: false,
        };
        let mounts = [
            at("outer", "/var/lib/postgresql"),
            at("data", "/var/lib/postgresql/data/"),
            at("other", "/var/lib/postgresql/database"),
        ];
        assert_eq!(
            holder(&mounts, "/var/lib/postgresql/data"),
            Some(("data".to_owned(), String::new()))
        );
        assert_eq!(
            holder(&mounts, "/var/lib/postgresql/18/docker"),
            Some(("outer".to_owned(), "/18/docker".to_owned()))
        );
        assert_eq!(holder(&mounts, "/srv/pg"), None);
    }
}
