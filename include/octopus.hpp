/**
 * @file octopus.hpp
 * @brief Octopus for C++17: the C ABI of octopus.h with move-only handles, exceptions, and
 * std::function callbacks.
 *
 * Header only: it needs octopus.h and the folder octopus/ beside it, and the standard library.
 *
 * @code{.cpp}
 * octopus::Library library = octopus::Library::find();
 * octopus::Driver driver(library, R"({"kafka": {"bootstrap.servers": "localhost:9092"}})");
 * driver.create_topic("scans");
 * octopus::Topic topic = driver.open_topic("scans");
 * octopus::Producer producer = topic.producer();
 * octopus::Push push = producer.push({R"({"energy": 7.1})", "the data"});
 * std::uint64_t offset = push.wait()->id;
 * @endcode
 *
 * - Ownership: a handle keeps the object that it was made from alive, so handles can be destroyed
 *   in any order. A handle that was moved from can only be assigned to or destroyed. Texts and
 *   bytes that are passed in are read during the call. Views that are returned are valid as long as
 *   the object that returned them.
 * - Threads: any thread may call any function, several threads also on the same object. Moving,
 *   assigning and destroying an object needs exclusive access, as usual.
 * - Errors: a status that octopus.h documents as an error is thrown as octopus::Error. A timeout is
 *   not an error: the function returns an empty optional, an empty vector, or false. Every function
 *   that calls the plugin can throw octopus::Error, also where its documentation does not name a
 *   status.
 * - Times: std::chrono::milliseconds. A negative time, for example octopus::forever, is no limit.
 * - Callbacks: an exception of a validator, serializer, selector, preparation, processor, token
 *   provider or pool becomes the failure of the operation that called it. All other callbacks must
 *   not throw, since that ends the program. docs/reference/abi.md says which thread calls a
 *   callback; on plugin threads, functions that would wait throw.
 *
 * @since 0.1
 */

#ifndef OCTOPUS_HPP
#define OCTOPUS_HPP

#include "octopus/component.hpp"
#include "octopus/consumer.hpp"
#include "octopus/detail.hpp"
#include "octopus/driver.hpp"
#include "octopus/error.hpp"
#include "octopus/event.hpp"
#include "octopus/find.hpp"
#include "octopus/future.hpp"
#include "octopus/library.hpp"
#include "octopus/preparation.hpp"
#include "octopus/producer.hpp"
#include "octopus/thread_pool.hpp"
#include "octopus/topic.hpp"

#endif /* OCTOPUS_HPP */
