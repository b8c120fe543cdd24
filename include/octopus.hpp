/*
 * Octopus for C++17: the C ABI of octopus.h as handles that release themselves, exceptions, and functions of yours as
 * callbacks. Header only: octopus.h and the folder octopus/ belong beside it, and nothing is needed but the standard library.
 *
 *     octopus::Library library(octopus_register);      // linked, or what dlsym gave for "octopus_register"
 *     octopus::Driver driver(library, R"({"kafka": {"bootstrap.servers": "localhost:9092"}})");
 *     driver.create_topic("scans");
 *     octopus::Topic topic = driver.open_topic("scans");
 *     octopus::Producer producer = topic.producer();
 *     octopus::Push push = producer.push({R"({"energy": 7.1})", "the data"});
 *     std::uint64_t offset = push.wait()->id;
 *
 * Ownership  Handles are move-only and keep what they were made from alive: destroy them in any order. A handle that was
 *            moved from can only be assigned to and destroyed. Texts and bytes that go in are read during the call; views
 *            that come out live as long as the object that gave them.
 * Threads    Every function may be called from any thread, also at the same time; moving, assigning and destroying a
 *            handle is for one thread alone, as with any object.
 * Errors     What the C function reports as an error is thrown as octopus::Error, with its status, which octopus.h names
 *            for each function. Time-outs are not errors: an empty optional, or false.
 * Times      std::chrono::milliseconds; a negative time, `forever` say, waits without end.
 * Callbacks  What validators, serializers, selectors, preparations, processors and pools throw becomes the failure of that
 *            one push, pull or process. The other functions must not throw: that ends the program, as in a std::thread.
 *            docs/abi.md tells which thread calls what; on threads of the plugin, what would wait is refused.
 */

#ifndef OCTOPUS_HPP
#define OCTOPUS_HPP

#include "octopus/component.hpp"
#include "octopus/consumer.hpp"
#include "octopus/detail.hpp"
#include "octopus/driver.hpp"
#include "octopus/error.hpp"
#include "octopus/event.hpp"
#include "octopus/future.hpp"
#include "octopus/library.hpp"
#include "octopus/preparation.hpp"
#include "octopus/producer.hpp"
#include "octopus/thread_pool.hpp"
#include "octopus/topic.hpp"

#endif /* OCTOPUS_HPP */
