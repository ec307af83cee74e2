//! The storage as its users see it, on a real disk.

#[test]
fn smoke() {
    use tandem::storage::*;
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("smoke");
    let _ = std::fs::remove_dir_all(&folder);
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    rt.block_on(async {
        let storage = Storage::open(&folder, &Options::default()).unwrap();
        let mut writer = storage.writer();
        let mut batch = Batch::new();
        for i in 0..1000u64 {
            batch.clear();
            batch.put(Table::Binding, &i.to_be_bytes(), &[1; 300]);
            writer.submit(&batch, i).unwrap();
        }
        let mut n = 0;
        while n < 1000 {
            for token in writer.committed().await.unwrap() {
                assert_eq!(token, n);
                n += 1;
            }
        }
        batch.clear();
        batch.put(Table::Cdr, b"x", b"y").put(Table::User, b"x", b"z");
        storage.write(&batch).await.unwrap();
        assert_eq!(storage.scan(Table::Binding, b"").count(), 1000);
        assert_eq!(storage.get(Table::User, b"x").unwrap().unwrap(), b"z");
    });
    let storage = Storage::open(&folder, &Options::default()).unwrap();
    assert_eq!(storage.scan(Table::Binding, b"").count(), 1000);
    println!("{}", Storage::open(&folder, &Options::default()).err().unwrap());
    println!("{}", Storage::open(std::path::Path::new("/dev/null"), &Options::default()).err().unwrap());
    println!("{}", Storage::open(std::path::Path::new("/dev/null/x"), &Options::default()).err().unwrap());
    println!("{}", Storage::open(std::path::Path::new("/sys/kernel"), &Options::default()).err().unwrap());
    println!("{}", Storage::open(std::path::Path::new("/proc/x"), &Options::default()).err().unwrap());
}
