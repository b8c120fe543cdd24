/*
 * Tests the interchange of topics and events between this project's library and C++ Octopus: one
 * writes them as the driver "octopus", the other reads them. Uses only features that both libraries
 * have.
 *
 *     ./interchange LIBRARY BOOTSTRAP-SERVERS PREFIX make any        # creates the topic without an info topic, if the writer can't
 *     ./interchange LIBRARY BOOTSTRAP-SERVERS PREFIX write asked     # pushes each event to a requested partition
 *     ./interchange LIBRARY BOOTSTRAP-SERVERS PREFIX write any       # requests partition 0; C++ Octopus selects any
 *     ./interchange LIBRARY BOOTSTRAP-SERVERS PREFIX read asked|any  # reads what was written so
 */

#include "support.hpp"

#include <map>
#include <set>

namespace {

using namespace support;

constexpr unsigned count = 60;
bool is_any_partition;

const Metadata schema{R"({"type": "schema", "schema": {"type": "object", "properties":
    {"number": {"type": "integer"}, "text": {"type": "string"}}, "required": ["number"]}})"};

struct Kind {
    std::string name;
    json settings;
    unsigned partitions;
    bool has_schema;
};

std::vector<Kind> kinds()
{
    return {{"plain", json::object(), 1, false},
            {"partitions", json::object(), 3, false},
            {"schema", json::object(), 1, true},
            {"namespaced", {{"namespace", prefix + "space"}}, 1, true},
            {"without-info", {{"disable_info_topic", true}}, 1, false}};
}

Metadata metadata_of(unsigned value)
{
    return Metadata{json{{"number", value},
                         {"text", "größe \"" + std::to_string(value) + "\" \n"},
                         {"float", 0.1 * value},
                         {"nested", {{"list", {1, nullptr, true, -3.5e-7}}}}}};
}

std::string data_of(unsigned value)
{
    return std::string(value * 37, 'd') + '\0' + std::to_string(value);
}

/* C++ Octopus mistakes default components for others when it creates a topic without an info topic,
 * and fails. */
void create_topic_without_info_topic()
{
    const Kind kind = kinds().back();
    driver(kind.settings).createTopic(prefix + kind.name, topic_options(kind.partitions));
}

void write_topics()
{
    for (const Kind &kind : kinds()) {
        const auto own = driver(kind.settings);
        if (own.topicExists(prefix + kind.name))
            EXPECT(kind.name == "without-info");
        else if (kind.has_schema)
            own.createTopic(prefix + kind.name, topic_options(kind.partitions),
                            diaspora::Validator::FromMetadata(schema),
                            diaspora::PartitionSelector{},
                            diaspora::Serializer::FromMetadata(schema));
        else
            own.createTopic(prefix + kind.name, topic_options(kind.partitions));
        auto producer =
            own.openTopic(prefix + kind.name).producer("writer", own.defaultThreadPool());
        std::vector<std::string> data;
        for (unsigned value = 0; value < count; value++) {
            data.push_back(data_of(value));
            const std::size_t half = data.back().size() / 2;
            const diaspora::DataView view{{{data.back().data(), half},
                                           {data.back().data() + half, data.back().size() - half}}};
            const auto pushed = producer.push(metadata_of(value), view,
                                              is_any_partition ? 0 : value % kind.partitions);
            std::optional<diaspora::EventID> id;
            for (unsigned waited = 0; !id && waited < 300; waited++)
                id = pushed.wait(100);
            EXPECT(id && (is_any_partition || *id == value / kind.partitions));
        }
    }
}

void read_topics()
{
    for (const Kind &kind : kinds()) {
        const auto own = driver(kind.settings);
        const auto name = prefix + kind.name;
        EXPECT(own.topicExists(name));
        const auto topic = own.openTopic(name);
        EXPECT(topic.partitions().size() == kind.partitions);
        const json expected = kind.has_schema ? schema.json() : json{{"type", "default"}};
        EXPECT(topic.validator().metadata().json() == expected &&
               topic.serializer().metadata().json().at("type") == expected.at("type"));
        const auto topics = own.listTopics();
        EXPECT(topics.count(name) == (kind.name == "without-info" ? 0 : 1));
        if (topics.count(name))
            EXPECT(topics.at(name).json().at("validator") == expected &&
                   topics.at(name).json().at("num_partitions") == kind.partitions);
        const auto consumer = topic.consumer(unique("interchange"),
                                             diaspora::DataSelector{select_all},
                                             diaspora::DataAllocator{allocate});
        std::map<unsigned, std::vector<unsigned>> partitions;
        std::set<unsigned> values;
        for (unsigned index = 0; index < count; index++) {
            std::optional<diaspora::Event> event;
            for (unsigned waited = 0; !event && waited < 300; waited++)
                event = consumer.pull().wait(100);
            EXPECT(event);
            const unsigned value = number_of(*event),
                           partition = event->partition().json().at("partition_id");
            EXPECT(is_any_partition || partition == value % kind.partitions);
            EXPECT(event->id() == partitions[partition].size() && values.insert(value).second);
            EXPECT(event->metadata().json() == metadata_of(value).json() &&
                   text_of(event->data()) == data_of(value));
            partitions[partition].push_back(value);
        }
        for (const auto &[partition, in_it] : partitions)
            EXPECT(std::is_sorted(in_it.begin(), in_it.end()));
    }
}

constexpr test_cases::TestCase making[] = {TEST_CASE(create_topic_without_info_topic)};
constexpr test_cases::TestCase writing[] = {TEST_CASE(write_topics)};
constexpr test_cases::TestCase reading[] = {TEST_CASE(read_topics)};

} // namespace

int main(int argc, char **argv)
{
    if (argc != 6) {
        std::fprintf(stderr,
                     "usage: %s LIBRARY BOOTSTRAP-SERVERS PREFIX make|write|read asked|any\n",
                     argv[0]);
        return 2;
    }
    is_any_partition = std::string(argv[5]) == "any";
    const std::string task = argv[4];
    if (task == "make")
        return support::run(4, argv, making);
    return task == "write" ? support::run(4, argv, writing) : support::run(4, argv, reading);
}
