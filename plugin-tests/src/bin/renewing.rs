//! A host whose authorization for the topic service stands in the environment, and is replaced
//! there: CONFIG VARIABLE, and on the standard input the next authorization. Prints what asking for
//! a topic gives, before and after.

use std::env;
use std::io;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [config, variable] = arguments.as_slice() else { panic!("renewing CONFIG VARIABLE") };
    let config: serde_json::Value = serde_json::from_str(config).expect("the configuration is JSON");
    let driver = plugin_tests::open_library().expect("the library is built").driver(config).expect("a driver is made");
    let ask = || match driver.topic_exists("of-nobody") {
        Ok(is_there) => println!("{is_there}"),
        Err(error) => println!("{error}"),
    };
    ask();
    let mut next = String::new();
    io::stdin().read_line(&mut next).expect("the next authorization can be read");
    // SAFETY: no other thread of this process changes the environment or keeps what it has found
    // there.
    unsafe { env::set_var(variable, next.trim_end()) };
    ask();
}
