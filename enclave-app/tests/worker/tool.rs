//! What pkcs11-tool cannot do.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;

use crate::lab::{MODULE, PIN};

/// `CLASS LABEL` destroys the objects of a class with a label, `CLASS LABEL NEW` renames them.
pub(crate) fn run(args: &[String]) {
    let pkcs11 = Pkcs11::new(MODULE).unwrap();
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = pkcs11.get_slots_with_initialized_token().unwrap()[0];
    let session = pkcs11.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&PIN.into())).unwrap();
    let class = match args[0].as_str() {
        "private" => ObjectClass::PRIVATE_KEY,
        "public" => ObjectClass::PUBLIC_KEY,
        "secret" => ObjectClass::SECRET_KEY,
        other => panic!("`{other}`"),
    };
    let template = [Attribute::Class(class), Attribute::Label(args[1].as_str().into())];
    let objects = session.find_objects(&template).unwrap();
    assert!(!objects.is_empty(), "{args:?}");
    for object in objects {
        match args.get(2) {
            Some(new) => {
                let label = Attribute::Label(new.as_str().into());
                session.update_attributes(object, &[label]).unwrap();
            }
            None => session.destroy_object(object).unwrap(),
        }
    }
    drop(session);
    pkcs11.finalize().unwrap();
}
