//! A workspace that was made before and whose parts do not belong together any more.

use super::*;

#[tokio::test]
async fn a_pointer_is_put_back_and_a_link_in_its_way_leads_nowhere() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    let outside = yard.dir.path().join("outside");
    fs::write(&outside, "precious").unwrap();
    fs::remove_file(site.path.join(".git")).unwrap();
    // Whoever may write there may guess what is written beside the pointer.
    for name in [format!(".git.{}.new", std::process::id()), ".drover-restoring".to_owned()] {
        std::os::unix::fs::symlink(&outside, site.path.join(name)).unwrap();
    }
    yard.spaces.make_usable(&site).await.unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
    assert!(!git(&site.path, &["rev-parse", "HEAD"]).is_empty());
    yard.spaces.make_usable(&site).await.unwrap();
}
