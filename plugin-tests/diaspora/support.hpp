/* Shared by the programs that test the C++ Diaspora API: helpers for drivers, topics and events. */

#ifndef SUPPORT_HPP
#define SUPPORT_HPP

#include "../hosts/test_cases.hpp"

#include <diaspora/Consumer.hpp>
#include <diaspora/Driver.hpp>
#include <diaspora/PosixThreadPool.hpp>
#include <diaspora/Producer.hpp>
#include <diaspora/TopicHandle.hpp>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace support {

using diaspora::Metadata;
using nlohmann::json;

constexpr int timeout_ms = 60'000, a_moment_ms = 300;

/* The arguments of the program. */
inline std::string library, servers, prefix;

/* The `main` of a program: LIBRARY BOOTSTRAP-SERVERS PREFIX. LIBRARY is the plugin's path; topic
 * names begin with PREFIX. */
template <std::size_t count>
int run(int argc, char **argv, const test_cases::TestCase (&all)[count])
{
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s LIBRARY BOOTSTRAP-SERVERS PREFIX\n", argv[0]);
        return 2;
    }
    library = argv[1];
    servers = argv[2];
    prefix = argv[3];
    return test_cases::run_all(all);
}

inline diaspora::Driver driver(json settings = json::object())
{
    json options = {{"kafka", {{"bootstrap.servers", servers}}}};
    options.merge_patch(settings);
    return diaspora::Driver::New(("octopus:" + library).c_str(), Metadata{options});
}

inline Metadata topic_options(unsigned partitions)
{
    return Metadata{json{{"replication_factor", 1}, {"num_partitions", partitions}}};
}

template <class... Components>
diaspora::TopicHandle new_topic(const diaspora::Driver &driver, const std::string &name,
                                unsigned partitions, Components... components)
{
    driver.createTopic(prefix + name, topic_options(partitions), components...);
    return driver.openTopic(prefix + name);
}

inline diaspora::TopicHandle new_topic(const std::string &name, unsigned partitions)
{
    return new_topic(driver(), name, partitions);
}

/* Returns the interface of a topic, which accepts thread pools that the driver has not created. */
inline std::shared_ptr<diaspora::TopicHandleInterface>
interface_of(diaspora::Driver driver, const diaspora::TopicHandle &topic)
{
    return driver.as<diaspora::DriverInterface>().openTopic(topic.name());
}

inline std::shared_ptr<diaspora::ProducerInterface>
producer_on(const std::shared_ptr<diaspora::ThreadPoolInterface> &pool,
            const diaspora::TopicHandle &topic,
            diaspora::Ordering ordering = diaspora::Ordering::Strict)
{
    return interface_of(topic.driver(), topic)
        ->makeProducer("p", diaspora::BatchSize::Adaptive(), diaspora::MaxNumBatches{2}, ordering,
                       pool, Metadata{});
}

/* NULL, which selects the driver's default pool; a pool of the driver; a pool of the user. */
inline std::vector<std::shared_ptr<diaspora::ThreadPoolInterface>>
all_pools(diaspora::Driver driver)
{
    return {nullptr,
            driver.as<diaspora::DriverInterface>().makeThreadPool(diaspora::ThreadCount{4}),
            std::make_shared<diaspora::PosixThreadPool>(diaspora::ThreadCount{4})};
}

inline Metadata number(unsigned value) { return Metadata{json{{"number", value}}}; }
inline unsigned number_of(const diaspora::Event &event)
{
    return event.metadata().json().at("number").get<unsigned>();
}

inline diaspora::DataView view(std::string &text)
{
    return diaspora::DataView{text.data(), text.size()};
}

inline std::string text_of(const diaspora::DataView &data)
{
    std::string text;
    for (const auto &segment : data.segments())
        text.append(static_cast<const char *>(segment.ptr), segment.size);
    return text;
}

/* Selects all data. */
inline diaspora::DataDescriptor select_all(const Metadata &, const diaspora::DataDescriptor &all)
{
    return all;
}

/* Allocates memory that is released with the returned view. */
inline diaspora::DataView allocate(const Metadata &, const diaspora::DataDescriptor &selected)
{
    auto *memory = new std::string(selected.size(), ' ');
    return diaspora::DataView{memory->data(), memory->size(), memory,
                              [memory](void *) { delete memory; }};
}

/* Pushes numbered events, each to the partition of its number modulo the number of partitions. */
inline void fill(const diaspora::TopicHandle &topic, unsigned count)
{
    auto producer = topic.producer();
    for (unsigned value = 0; value < count; value++)
        producer.push(number(value), diaspora::DataView{}, value);
    EXPECT(producer.flush().wait(timeout_ms));
}

inline diaspora::Event next(const diaspora::Consumer &consumer)
{
    const auto event = consumer.pull().wait(timeout_ms);
    EXPECT(event);
    return *event;
}

inline std::vector<unsigned> read_numbers(const diaspora::Consumer &consumer, std::size_t count)
{
    std::vector<unsigned> numbers;
    while (numbers.size() < count)
        numbers.push_back(number_of(next(consumer)));
    return numbers;
}

inline bool has_no_event(const diaspora::Consumer &consumer)
{
    return !consumer.pull().wait(a_moment_ms);
}

inline std::vector<unsigned> from_to(unsigned first, unsigned end, unsigned step = 1)
{
    std::vector<unsigned> numbers;
    for (; first < end; first += step)
        numbers.push_back(first);
    return numbers;
}

/* Returns a consumer name that no other test uses. */
inline std::string unique(const std::string &name)
{
    static std::atomic<unsigned> last{0};
    return prefix + name + "-" + std::to_string(++last);
}

} // namespace support

#endif
