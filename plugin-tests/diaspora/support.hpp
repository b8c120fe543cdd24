/* What the programs share that show the promises of the C++ Diaspora API: a driver, topics, events. */

#ifndef SUPPORT_HPP
#define SUPPORT_HPP

#include "../hosts/promises.hpp"

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

constexpr int patience_ms = 60'000, a_moment_ms = 300;

/* What the program was called with. */
inline std::string library, servers, prefix;

/* `main` of a program: LIBRARY BOOTSTRAP-SERVERS PREFIX. The library is the plugin's path; the prefix is for topics. */
template <std::size_t count> int run(int argc, char **argv, const promises::Promise (&all)[count])
{
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s LIBRARY BOOTSTRAP-SERVERS PREFIX\n", argv[0]);
        return 2;
    }
    library = argv[1];
    servers = argv[2];
    prefix = argv[3];
    return promises::keep(all);
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
diaspora::TopicHandle new_topic(const diaspora::Driver &driver, const std::string &name, unsigned partitions,
                                Components... components)
{
    driver.createTopic(prefix + name, topic_options(partitions), components...);
    return driver.openTopic(prefix + name);
}

inline diaspora::TopicHandle new_topic(const std::string &name, unsigned partitions)
{
    return new_topic(driver(), name, partitions);
}

/* A topic as its interface, which takes pools that are none of the driver's. */
inline std::shared_ptr<diaspora::TopicHandleInterface> interface_of(diaspora::Driver driver,
                                                                    const diaspora::TopicHandle &topic)
{
    return driver.as<diaspora::DriverInterface>().openTopic(topic.name());
}

inline std::shared_ptr<diaspora::ProducerInterface>
producer_on(const std::shared_ptr<diaspora::ThreadPoolInterface> &pool, const diaspora::TopicHandle &topic,
            diaspora::Ordering ordering = diaspora::Ordering::Strict)
{
    return interface_of(topic.driver(), topic)
        ->makeProducer("p", diaspora::BatchSize::Adaptive(), diaspora::MaxNumBatches{2}, ordering, pool, Metadata{});
}

/* None, which is the driver's default one; one of the driver's; one of the user's. */
inline std::vector<std::shared_ptr<diaspora::ThreadPoolInterface>> all_pools(diaspora::Driver driver)
{
    return {nullptr, driver.as<diaspora::DriverInterface>().makeThreadPool(diaspora::ThreadCount{4}),
            std::make_shared<diaspora::PosixThreadPool>(diaspora::ThreadCount{4})};
}

inline Metadata number(unsigned value) { return Metadata{json{{"number", value}}}; }
inline unsigned number_of(const diaspora::Event &event) { return event.metadata().json().at("number").get<unsigned>(); }

inline diaspora::DataView view(std::string &text) { return diaspora::DataView{text.data(), text.size()}; }

inline std::string text_of(const diaspora::DataView &data)
{
    std::string text;
    for (const auto &segment : data.segments())
        text.append(static_cast<const char *>(segment.ptr), segment.size);
    return text;
}

/* Numbered events, each in the partition of its number modulo theirs. */
inline void fill(const diaspora::TopicHandle &topic, unsigned count)
{
    auto producer = topic.producer();
    for (unsigned value = 0; value < count; value++)
        producer.push(number(value), diaspora::DataView{}, value);
    EXPECT(producer.flush().wait(patience_ms));
}

inline diaspora::Event next(const diaspora::Consumer &consumer)
{
    const auto event = consumer.pull().wait(patience_ms);
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

inline bool nothing_comes(const diaspora::Consumer &consumer) { return !consumer.pull().wait(a_moment_ms); }

inline std::vector<unsigned> from_to(unsigned first, unsigned end, unsigned step = 1)
{
    std::vector<unsigned> numbers;
    for (; first < end; first += step)
        numbers.push_back(first);
    return numbers;
}

/* A consumer's name that nobody else uses. */
inline std::string unique(const std::string &name)
{
    static std::atomic<unsigned> last{0};
    return prefix + name + "-" + std::to_string(++last);
}

} // namespace support

#endif
