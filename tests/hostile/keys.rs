//! Key files and configurations: garbage beside a good one is passed over, garbage alone is an error that comes soon.

use backupfs::error::Kind;
use serde_json::{Value, json};

use crate::scene::{Scene, open, walked};
use crate::writer::{Key, PASSWORD, Repository, Scrypt, node};

/// Key files of which none opens, each wrong in its own way.
fn garbage() -> Vec<Value> {
    let good = Key::known().file(PASSWORD, Scrypt::QUICK);
    let lies = [
        json!({"N": 0}),
        json!({"N": 1}),
        json!({"N": 3}),
        json!({"N": -1}),
        json!({"N": 1_u64 << 63}),
        json!({"N": 1_u64 << 40, "r": 8}),
        json!({"N": 1 << 20, "r": 1 << 20}),
        json!({"N": 1 << 20, "r": 8, "p": 1 << 20}),
        json!({"N": "16"}),
        json!({"r": 0}),
        json!({"r": u32::MAX}),
        json!({"r": u64::MAX, "p": u64::MAX}),
        json!({"p": 0}),
        json!({"p": 1 << 30}),
        json!({"kdf": "argon2"}),
        json!({"kdf": null}),
        json!({"salt": "!!!"}),
        json!({"salt": ""}),
        json!({"salt": null}),
        json!({"salt": "A".repeat(10 << 20)}),
        json!({"data": "!!!"}),
        json!({"data": ""}),
        json!({"data": "AAAA"}),
        json!({"data": "A".repeat(4 << 20)}),
        json!({"data": "-"}),
    ];
    lies.into_iter().map(|lie| node::with(good.clone(), lie)).collect()
}

#[tokio::test]
async fn garbage_beside_a_good_key_is_passed_over() {
    let mut repository = Repository::new(2);
    Scene::new(&mut repository, "good").end();
    // Fewer than are tried at most, so that the good one's turn comes in any order.
    for json in garbage().into_iter().step_by(2) {
        repository.stored("keys", json.to_string().as_bytes());
    }
    for text in [&b""[..], b"{", b"hello", &[0xff; 100]] {
        repository.stored("keys", text);
    }
    let source = open(repository.into_store()).await.unwrap();
    assert_eq!(walked(&*source, "/good").await.len(), 3);
}

#[tokio::test]
async fn garbage_alone_is_refused() {
    for json in garbage() {
        let mut repository = Repository::bare(2);
        repository.stored("keys", json.to_string().as_bytes());
        let config = repository.seal(br#"{"version":2,"id":"00","chunker_polynomial":"1"}"#);
        repository.put("config", &config);
        let error = open(repository.into_store()).await.err().unwrap();
        let honest = matches!(error.kind(), Kind::Password | Kind::Corrupt | Kind::Unsupported);
        assert!(honest, "{error:?} for {}", json.to_string().chars().take(300).collect::<String>());
        assert!(error.to_string().len() < 2000, "a message of {} bytes", error.to_string().len());
    }
}

#[tokio::test]
async fn a_config_that_is_none_is_refused() {
    let id = crate::writer::id(b"x");
    let configs = [
        json!({"version": 2, "chunker_polynomial": "1"}),
        json!({"version": 0, "id": id}),
        json!({"version": 3, "id": id}),
        json!({"version": u64::MAX, "id": id}),
        json!({"version": "2", "id": id}),
        json!({"version": 2, "id": 5}),
        json!({}),
        json!([]),
    ];
    let mut texts: Vec<_> = configs.iter().map(|json| json.to_string().into_bytes()).collect();
    texts.extend([b"".to_vec(), b"hello".to_vec(), b"{\"version\":2".to_vec(), b"\x02zstd?".to_vec()]);
    for text in texts {
        let mut repository = Repository::new(2);
        let config = repository.seal(&text);
        repository.put("config", &config);
        let error = open(repository.into_store()).await.err();
        let shown = String::from_utf8_lossy(&text).into_owned();
        let kind = error.unwrap_or_else(|| panic!("{shown} was opened")).kind();
        assert!(matches!(kind, Kind::Corrupt | Kind::Unsupported), "{kind:?} for {shown}");
    }
    for stored in [&b""[..], b"x", &[7; 31], &[7; 32], &[0; 200]] {
        let mut repository = Repository::new(2);
        repository.put("config", stored);
        assert_eq!(open(repository.into_store()).await.err().unwrap().kind(), Kind::Corrupt);
    }
}
