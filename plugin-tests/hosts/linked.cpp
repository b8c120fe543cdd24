/*
 * A host in C++ that links the library and uses the C header only. It wraps handles and errors in a
 * few lines, pushes and pulls some events, and checks versions, slots that a build may lack, errors
 * and their messages, the log service, and when the plugin destroys its context.
 *
 *     c++ -std=c++17 -I include -o linked plugin-tests/hosts/linked.cpp -L DIR -loctopus -Wl,-rpath,DIR
 *     ./linked localhost:9092 a-new-topic a-group [events]
 */

#include "octopus.h"

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

constexpr std::uint64_t partitions = 3;
constexpr std::int64_t timeout_ms = 60'000;

const octopus_api &api()
{
    static const octopus_api *const registered = octopus_register(OCTOPUS_ABI_MAJOR);
    if (!registered || registered->abi_minor != OCTOPUS_ABI_MINOR)
        throw std::runtime_error("the library does not have the ABI version of this header");
    return *registered;
}

/* Owns a handle of the plugin and releases it. */
template <class T, void (*release)(T *)> class handle {
public:
    using type = T;
    explicit handle(T *owned) : owned_(owned) {}
    handle(handle &&other) noexcept : owned_(std::exchange(other.owned_, nullptr)) {}
    handle &operator=(handle &&other) noexcept
    {
        std::swap(owned_, other.owned_);
        return *this;
    }
    ~handle() { release(owned_); } /* has no effect on NULL */
    T *get() const { return owned_; }

private:
    T *owned_;
};

void release_handle(octopus_error *owned) { api().error->release(owned); }
void release_handle(octopus_driver *owned) { api().driver->release(owned); }
void release_handle(octopus_topic *owned) { api().topic->release(owned); }
void release_handle(octopus_producer *owned) { api().producer->release(owned); }
void release_handle(octopus_consumer *owned) { api().consumer->release(owned); }
void release_handle(octopus_future *owned) { api().future->release(owned); }
void release_handle(octopus_event *owned) { api().event->release(owned); }

using error_handle = handle<octopus_error, release_handle>;
using driver_handle = handle<octopus_driver, release_handle>;
using topic_handle = handle<octopus_topic, release_handle>;
using producer_handle = handle<octopus_producer, release_handle>;
using consumer_handle = handle<octopus_consumer, release_handle>;
using future_handle = handle<octopus_future, release_handle>;
using event_handle = handle<octopus_event, release_handle>;

octopus_text text(std::string_view from) { return {from.data(), from.size()}; }
octopus_bytes bytes(std::string_view from)
{
    return {reinterpret_cast<const std::uint8_t *>(from.data()), from.size()};
}
std::string_view view(octopus_text from) { return {from.data, from.size}; }
std::string_view view(octopus_bytes from)
{
    return {reinterpret_cast<const char *>(from.data), from.size};
}

/* Returns a struct of the ABI with its size set and all else at its default. */
template <class T> T sized()
{
    T made{};
    made.size = sizeof made;
    return made;
}

struct failure : std::runtime_error {
    failure(octopus_status status, const error_handle &error)
        : std::runtime_error(std::string(view(api().error->message(error.get())))), status(status)
    {
    }
    octopus_status status;
};

/* Calls a slot. The last argument of each slot is the error. */
template <class... Parameters, class... Arguments>
void call(octopus_status (*slot)(Parameters...), Arguments... arguments)
{
    octopus_error *error;
    const octopus_status status = slot(arguments..., &error);
    const error_handle owned(error);
    if (status != OCTOPUS_OK)
        throw failure(status, owned);
}

/* Calls a slot that returns a handle in the argument before the error. */
template <class Handle, class... Parameters, class... Arguments>
Handle make(octopus_status (*slot)(Parameters...), Arguments... arguments)
{
    typename Handle::type *made;
    call(slot, arguments..., &made);
    return Handle(made);
}

void expect(bool holds, const std::string &what)
{
    if (!holds)
        throw std::runtime_error("this check failed: " + what);
}

template <class Attempt>
void expect_error(const std::string &what, octopus_status status, std::string_view named,
                  Attempt attempt)
{
    try {
        attempt();
    } catch (const failure &refusal) {
        std::printf("%s: %s\n", what.c_str(), refusal.what());
        expect(refusal.status == status, what + " returns status " + std::to_string(status) +
                                             ", not " + std::to_string(refusal.status));
        expect(std::string_view(refusal.what()).find(named) != std::string_view::npos,
               "the message names " + std::string(named));
        return;
    }
    expect(false, what + " is rejected");
}

/* The context of the log service. Its functions are called on any thread and must not throw. */
class log_recorder {
public:
    octopus_log_callback service()
    {
        const auto keep = [](void *context, std::int32_t, octopus_text, octopus_text message) {
            auto &self = *static_cast<log_recorder *>(context);
            try {
                const std::lock_guard<std::mutex> lock(self.mutex_);
                self.text_.append(view(message)).append("\n");
            } catch (const std::exception &) {
                /* The line is lost if there is no memory for it. */
            }
        };
        const auto destroy = [](void *context) {
            auto &self = *static_cast<log_recorder *>(context);
            const std::lock_guard<std::mutex> lock(self.mutex_);
            self.destroyed_++;
            self.changed_.notify_all();
        };
        return {keep, this, destroy};
    }

    bool holds(std::string_view part)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        return text_.find(part) != std::string::npos;
    }

    /* Clients end in the background after their last handle is released, so the call may come
     * later. */
    int destroyed_after_waiting()
    {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait_for(lock, std::chrono::seconds(10), [this] { return destroyed_ > 0; });
        changed_.wait_for(lock, std::chrono::milliseconds(100), [this] { return destroyed_ > 1; });
        return destroyed_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::string text_;
    int destroyed_ = 0;
};

void check_versions()
{
    std::printf("%s %s, ABI %u.%u, librdkafka %s\n", std::string(view(api().name)).c_str(),
                std::string(view(api().version)).c_str(), api().abi_major, api().abi_minor,
                std::string(view(api().librdkafka_version)).c_str());
    expect(view(api().name) == "octopus", "the plugin has its name");
    expect(api().abi_major == OCTOPUS_ABI_MAJOR, "the plugin has the requested major version");
    expect(view(api().built_in).find("ssl") != std::string_view::npos,
           "librdkafka has TLS built in");
}

/* A slot that isn't built is NULL; a slot that an older library lacks lies beyond the size of its
 * table. */
void check_slots()
{
    std::string lacking;
#define CHECK_SLOT(noun, slot)          \
    if (!OCTOPUS_HAS(api().noun, slot)) \
        lacking += " " #noun "->" #slot;
    CHECK_SLOT(producer, push)
    CHECK_SLOT(producer, push_many)
    CHECK_SLOT(consumer, pull)
    CHECK_SLOT(consumer, pull_many)
    CHECK_SLOT(consumer, process)
    CHECK_SLOT(consumer, seek)
    CHECK_SLOT(future, on_complete)
    CHECK_SLOT(driver, list_topics)
    CHECK_SLOT(thread_pool, create)
#undef CHECK_SLOT
    std::printf("slots that this build lacks:%s\n", lacking.empty() ? " none" : lacking.c_str());

    octopus_event_api older = *api().event;
    older.size = offsetof(octopus_event_api, acknowledge);
    expect(OCTOPUS_HAS(&older, view) && !OCTOPUS_HAS(&older, acknowledge),
           "OCTOPUS_HAS checks the size of the table");
}

std::string metadata_of(std::uint64_t n) { return "{\"number\":" + std::to_string(n) + "}"; }
std::string data_of(std::uint64_t n) { return std::string(n % 7, 'x') + '\0' + std::to_string(n); }

future_handle push(const producer_handle &producer, std::string_view metadata, octopus_bytes data,
                   std::uint64_t partition)
{
    auto event = sized<octopus_push_args>();
    event.metadata = bytes(metadata);
    event.segments = &data;
    event.segment_count = 1;
    event.partition = partition;
    event.has_partition = 1;
    return make<future_handle>(api().producer->push, producer.get(), &event);
}

void push_all(const producer_handle &producer, std::uint64_t count)
{
    std::vector<future_handle> deliveries;
    for (std::uint64_t n = 0; n < count; n++)
        deliveries.push_back(push(producer, metadata_of(n), bytes(data_of(n)), n % partitions));
    for (std::uint64_t n = 0; n < count; n++) {
        std::uint64_t offset;
        std::uint32_t partition;
        call(api().future->wait, deliveries[n].get(), timeout_ms);
        call(api().future->event_id, deliveries[n].get(), &offset);
        call(api().future->partition, deliveries[n].get(), &partition);
        expect(offset == n / partitions && partition == n % partitions,
               "event " + std::to_string(n) +
                   " has the offset and the partition that were expected");
    }
}

void read_all(const consumer_handle &consumer, std::uint64_t count)
{
    std::vector<std::uint64_t> next_number = {0, 1, 2};
    for (std::uint64_t seen = 0; seen < count; seen++) {
        const auto pending = make<future_handle>(api().consumer->pull, consumer.get());
        call(api().future->wait, pending.get(), timeout_ms);
        const auto event = make<event_handle>(api().future->event, pending.get());
        auto content = sized<octopus_event_view>();
        call(api().event->view, event.get(), &content);

        std::uint64_t &expected = next_number.at(content.partition);
        expect(view(content.metadata) == metadata_of(expected) &&
                   view(content.data) == data_of(expected),
               "the next event of partition " + std::to_string(content.partition) + " is " +
                   std::to_string(expected));
        expect(content.id == expected / partitions && content.timestamp_ms > 0,
               "the event has its offset and a time");
        expected += partitions;
        call(api().event->acknowledge, event.get());
    }
}

void check_errors(const driver_handle &driver, const producer_handle &producer)
{
    std::uint64_t max_size;
    call(api().producer->max_event_size, producer.get(), &max_size);
    const std::string metadata = "\"large\"";
    const std::string largest(max_size - metadata.size(), 'x');
    call(api().future->wait, push(producer, metadata, bytes(largest), 0).get(), timeout_ms);
    expect_error("an event of one byte more than max_event_size", OCTOPUS_TOO_LARGE,
                 "kafka.message.max.bytes",
                 [&] { push(producer, metadata, bytes(largest + "x"), 0); });
    expect_error("data at NULL with a size", OCTOPUS_INVALID_ARGUMENT, "NULL",
                 [&] { push(producer, metadata, octopus_bytes{nullptr, 5}, 0); });
    expect_error("metadata that is not JSON", OCTOPUS_INVALID_METADATA, "JSON",
                 [&] { push(producer, "{\"number\":", octopus_bytes{nullptr, 0}, 0); });
    expect_error("opening a topic that is not there", OCTOPUS_UNKNOWN_TOPIC,
                 "there-is-no-such-topic", [&] {
                     make<topic_handle>(api().driver->open_topic, driver.get(),
                                        text("there-is-no-such-topic"));
                 });
    call(api().future->wait, push(producer, metadata, octopus_bytes{nullptr, 0}, 0).get(),
         timeout_ms);
}

void run(const std::string &servers, const std::string &name, const std::string &group,
         std::uint64_t count, log_recorder &log)
{
    auto services = sized<octopus_host_services>();
    services.log = log.service();
    const std::string config = "{\"kafka\":{\"bootstrap.servers\":\"" + servers +
                               "\"},\"open_retry_ms\":0,\"a key that nobody knows\":1}";
    const auto driver = make<driver_handle>(api().driver->create, text(config), &services);
    expect(log.holds("a key that nobody knows"),
           "the log service received the warning about the unknown key");

    auto topic_args = sized<octopus_create_topic_args>();
    topic_args.options = OCTOPUS_TEXT("{\"num_partitions\":3,\"replication_factor\":1}");
    call(api().driver->create_topic, driver.get(), text(name), &topic_args);
    const auto topic = make<topic_handle>(api().driver->open_topic, driver.get(), text(name));

    const auto producer = make<producer_handle>(api().topic->make_producer, topic.get(), nullptr);
    push_all(producer, count);

    auto consumer_args = sized<octopus_consumer_args>();
    consumer_args.name = text(group);
    const auto consumer = make<consumer_handle>(api().topic->make_consumer, topic.get(),
                                                &consumer_args);
    read_all(consumer, count);
    call(api().consumer->close, consumer.get(), timeout_ms);
    std::printf("%s events in 3 partitions, each in its place and in order\n",
                std::to_string(count).c_str());

    check_errors(driver, producer);
    call(api().producer->close, producer.get(), timeout_ms);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 4) {
        std::fprintf(stderr, "usage: %s BOOTSTRAP-SERVERS NEW-TOPIC GROUP [EVENTS]\n", argv[0]);
        return 1;
    }
    auto log = std::make_unique<log_recorder>();
    try {
        check_versions();
        check_slots();
        run(argv[1], argv[2], argv[3], argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 300, *log);
        const int destroyed = log->destroyed_after_waiting();
        expect(destroyed == 1,
               "the log's context is destroyed once, not " + std::to_string(destroyed) + " times");
    } catch (const std::exception &why) {
        std::fprintf(stderr, "%s\n", why.what());
        static_cast<void>(
            log.release()); /* not deleted: the plugin may log until it has called destroy */
        return 1;
    }
    std::puts("the log's context was destroyed once");
    return 0;
}
