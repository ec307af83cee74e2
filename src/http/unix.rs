//! The host's own socket in the data folder: who may open it is an administrator, and the folder's rights say who may.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream as Probe};
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

/// Its name in the data folder.
const NAME: &str = "tandem.sock";

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error("{}: another process serves it; accepted: a data_dir of its own", path.display())]
    Served {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused it.
    #[error("{}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Opens the socket, mode 0600. One that a dead process left is replaced. None where the path is too long for a socket: the switch does
/// without, and says so.
///
/// # Errors
///
/// Another process serves it, or the system refuses it.
pub fn listen(data_dir: &Path) -> Result<Option<UnixListener>, SocketError> {
    let path = data_dir.join(NAME);
    let refused = |error| SocketError::Io { path: path.clone(), error };
    match Probe::connect(&path) {
        Ok(_) => return Err(SocketError::Served { path }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(&path).map_err(refused)?,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            tracing::warn!(path = %path.display(), "the path is too long for a socket: the command line cannot reach this switch");
            return Ok(None);
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(&path).map_err(refused)?;
    listener.set_nonblocking(true).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o600))).map_err(refused)?;
    Ok(Some(listener))
}

/// Waits for a connection; for ever where there is no socket.
pub(super) async fn accept(listener: Option<&tokio::net::UnixListener>) -> Option<UnixStream> {
    let Some(listener) = listener else { return std::future::pending().await };
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "no local connection can be accepted");
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let first = listen(folder.path()).unwrap().unwrap();
        let mode = fs::metadata(folder.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(listen(folder.path()), Err(SocketError::Served { .. })));
        drop(first);
        assert!(listen(folder.path()).unwrap().is_some());
        let long = folder.path().join("x".repeat(120));
        fs::create_dir(&long).unwrap();
        assert!(listen(&long).unwrap().is_none());
    }
}
