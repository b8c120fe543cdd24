/* Tests the driver's option `attributes_field`: the metadata field that has the key, the headers
 * and the timestamp of a record. kcat, which must be installed, writes and reads the records. */

#include "support.hpp"

#include <unistd.h>

#include <cstdio>
#include <map>

namespace {

using namespace support;
using test_cases::mentions;

/* An hour ago: a time that no clock of a test shows, and that no retention ends. */
const long long timestamp = (std::chrono::duration_cast<std::chrono::milliseconds>(
                                 std::chrono::system_clock::now().time_since_epoch()) -
                             std::chrono::hours(1))
                                .count();

/* Runs kcat with this input, a format of printf, and returns what it prints. */
std::string kcat(const std::string &arguments, const std::string &input = "")
{
    const auto command = "printf '" + input + "' | timeout 60 kcat -b '" + servers + "' " +
                         arguments;
    FILE *output = popen(command.c_str(), "r");
    EXPECT(output);
    std::string printed;
    for (int byte = std::fgetc(output); byte != EOF; byte = std::fgetc(output))
        printed += static_cast<char>(byte);
    EXPECT(pclose(output) == 0);
    return printed;
}

/* Returns a line for each record: timestamp, length of the key, key, headers, value. */
std::string records_of(const diaspora::TopicHandle &topic)
{
    return kcat("-C -o beginning -e -q -f '%T|%K|%k|%h|%s\\n' -t " + topic.name());
}

diaspora::Driver driver_with_field(const json &name = "kafka")
{
    return driver({{"attributes_field", name}});
}

diaspora::TopicHandle new_topic_with_field(const std::string &name, unsigned partitions = 1)
{
    return new_topic(driver_with_field(), name, partitions);
}

Metadata records(const std::string &format) { return Metadata{json{{"records", format}}}; }

/* Reads events of any format and returns the metadata of each. */
std::vector<json> read(const diaspora::TopicHandle &topic, std::size_t count)
{
    const auto consumer = topic.consumer(unique("reader"), records("auto"));
    std::vector<json> metadata;
    while (metadata.size() < count)
        metadata.push_back(next(consumer).metadata().json());
    return metadata;
}

/* Removes the timestamps, after checking that they are times of this test. */
std::vector<json> without_timestamps(std::vector<json> all)
{
    for (json &metadata : all) {
        EXPECT(metadata.at("kafka").at("timestamp") > timestamp);
        metadata["kafka"].erase("timestamp");
    }
    return all;
}

json header(const char *name, const json &value) { return {{"name", name}, {"value", value}}; }

/* Attributes in each form: text, other bytes, empty, and missing. */
std::vector<json> all_attributes()
{
    const json key = {{"base64", "AP+A"}}, value = {{"base64", "//6A"}};
    return {
        json::object(),
        {{"key", "größe \"1\"\n"}, {"timestamp", timestamp}},
        {{"key", key}, {"headers", json::array({header("binary", value)})}},
        {{"key", ""},
         {"headers", json::array({header("twice", "2"), header("once", ""), header("twice", "1"),
                                  header("twice", "2"), json{{"name", "without value"}}})}},
        {{"headers", json::array({header("größe", "Ω")})}, {"timestamp", timestamp + 1}}};
}

void attributes_of_records_of_kcat_are_read()
{
    const auto topic = new_topic_with_field("read");
    const auto write = [&](const std::string &arguments, const std::string &input) {
        kcat("-P -t " + topic.name() + " " + arguments, input);
    };
    write("-K: -H run=1 -H run=2 -H run=1 -H flag -H empty=", "sensor 7:{\"n\":1}\\n");
    write("-K%", "\\377\\376%%{\"n\":2}\\n");
    write("", "{\"n\":3}\\nno JSON\\n[1]\\n");
    const auto read_metadata = read(topic, 5);
    EXPECT(read_metadata[4] == json::array({1}));
    const std::vector<json> expected = {
        {{"n", 1},
         {"kafka",
          {{"key", "sensor 7"},
           {"headers", json::array({header("run", "1"), header("run", "2"), header("run", "1"),
                                    json{{"name", "flag"}}, header("empty", "")})}}}},
        {{"n", 2}, {"kafka", {{"key", {{"base64", "//4="}}}}}},
        {{"n", 3}, {"kafka", json::object()}},
        {{"kafka", json::object()}}};
    EXPECT(without_timestamps({read_metadata.begin(), read_metadata.begin() + 4}) == expected);
}

void record_without_value_is_read_with_its_key()
{
    const auto topic = new_topic_with_field("tombstone");
    kcat("-P -Z -K: -t " + topic.name(), "deleted:\\n");
    EXPECT(without_timestamps(read(topic, 1)) ==
           std::vector<json>{{{"kafka", {{"key", "deleted"}}}}});
}

void pushed_attributes_are_read_by_kcat()
{
    const auto topic = new_topic_with_field("written");
    const auto producer = topic.producer(records("json"));
    for (const json &attributes : all_attributes()) {
        json metadata = {{"n", 1}, {"kafka", attributes}};
        metadata["kafka"]["timestamp"] = timestamp;
        EXPECT(producer.push(Metadata{metadata}).wait(timeout_ms));
    }
    EXPECT(producer.push(Metadata{json{{"kafka", {{"key", nullptr}, {"timestamp", timestamp}}}}})
               .wait(timeout_ms));
    const auto line = [](const std::string &text) {
        return std::to_string(timestamp) + "|" + text + "\n";
    };
    const std::string key("\0\xff\x80", 3);
    EXPECT(records_of(topic) ==
           line("-1|||{\"n\":1}") + line("12|größe \"1\"\n||{\"n\":1}") +
               line("3|" + key + "|binary=\xff\xfe\x80|{\"n\":1}") +
               line("0||twice=2,once=,twice=1,twice=2,without value=NULL|{\"n\":1}") +
               line("-1||größe=Ω|{\"n\":1}") + line("-1|||{}"));
}

void event_that_was_read_can_be_pushed_again_unchanged()
{
    const auto own = driver_with_field();
    const auto attributes = all_attributes();
    for (const std::string type : {"default", "schema"}) {
        const auto validator = diaspora::Validator::FromMetadata(
            Metadata{json{{"type", type}, {"schema", json::object()}}});
        const auto topic = new_topic(own, "original-" + type, 1, validator);
        for (const auto &pool : all_pools(own)) {
            const auto producer = producer_on(pool, topic);
            for (std::size_t index = 0; index < attributes.size(); index++)
                EXPECT(
                    producer
                        ->push(Metadata{json{{"n", index}, {"kafka", attributes[index]}}}, {}, {})
                        .wait(timeout_ms));
        }
        const auto original = read(topic, 3 * attributes.size());
        for (std::size_t index = 0; index < original.size(); index++) {
            auto expected = attributes[index % attributes.size()];
            expected.emplace("timestamp", original[index].at("kafka").at("timestamp"));
            EXPECT(original[index].at("kafka") == expected);
        }
        const auto copy = new_topic(own, "copy-" + type, 1, validator);
        auto producer = copy.producer();
        for (const json &metadata : original)
            producer.push(Metadata{metadata});
        EXPECT(producer.flush().wait(timeout_ms));
        EXPECT(read(copy, original.size()) == original && records_of(copy) == records_of(topic));
    }
}

void events_with_data_have_their_attributes_too()
{
    const auto topic = new_topic_with_field("data");
    std::string data = "some data";
    const auto metadata = Metadata{json{{"kafka", {{"key", "k"}, {"timestamp", timestamp}}}}};
    for (const auto *format : {"diaspora", "bytes"}) {
        auto producer = topic.producer(records(format));
        EXPECT(producer.push(metadata, view(data)).wait(timeout_ms));
    }
    std::vector<json> selected_by;
    const auto consumer = topic.consumer(
        unique("reader"), records("auto"),
        diaspora::DataSelector{[&](const Metadata &seen, const diaspora::DataDescriptor &all) {
            selected_by.push_back(seen.json());
            return all;
        }},
        diaspora::DataAllocator{allocate});
    for (unsigned index = 0; index < 2; index++) {
        const auto event = next(consumer);
        EXPECT(event.metadata().json() == metadata.json() && text_of(event.data()) == data);
    }
    EXPECT(selected_by == std::vector<json>(2, metadata.json()));
}

void validator_sees_metadata_without_the_field()
{
    const Metadata schema{
        R"({"type": "schema", "schema": {"type": "object", "properties": {"number": {"type": "integer"}},
                              "additionalProperties": false}})"};
    const auto own = driver_with_field();
    const auto topic = new_topic(own, "validated", 1, diaspora::Validator::FromMetadata(schema));
    for (const auto &pool : all_pools(own)) {
        const auto producer = producer_on(pool, topic);
        json metadata = {{"number", 1}, {"kafka", {{"key", "k"}}}};
        EXPECT(producer->push(Metadata{metadata}, {}, {}).wait(timeout_ms));
        metadata["another"] = 1;
        THROWN_BY(diaspora::Exception, producer->push(Metadata{metadata}, {}, {}).wait(timeout_ms));
    }
    EXPECT(read(topic, 3)[2].at("kafka").at("key") == "k");
}

void key_selects_the_partition_as_other_clients_do()
{
    constexpr unsigned count = 20;
    const auto topic = new_topic_with_field("partitions", 5);
    std::string lines;
    for (unsigned key = 0; key < count; key++)
        lines += "key " + std::to_string(key) + ":1\\n";
    kcat("-P -K: -X topic.partitioner=murmur2 -t " + topic.name(), lines);
    auto producer = topic.producer(Metadata{json{{"records", "json"}, {"partitioner", "key"}}});
    for (unsigned key = 0; key < count; key++)
        producer.push(Metadata{json{{"kafka", {{"key", "key " + std::to_string(key)}}}}});
    EXPECT(producer.flush().wait(timeout_ms));
    std::map<std::string, std::vector<std::string>> partitions;
    const auto printed = kcat("-C -o beginning -e -q -f '%k|%p\\n' -t " + topic.name());
    for (std::size_t begin = 0, end; (end = printed.find('\n', begin)) < printed.size();
         begin = end + 1) {
        const auto bar = printed.find('|', begin);
        partitions[printed.substr(begin, bar - begin)].push_back(
            printed.substr(bar + 1, end - bar - 1));
    }
    EXPECT(partitions.size() == count);
    for (const auto &[key, both] : partitions)
        EXPECT(both.size() == 2 && both[0] == both[1]);
}

void wrong_attributes_fail_that_push_only_and_are_named()
{
    const auto topic = new_topic_with_field("wrong");
    const auto headers = [](const json &element) {
        return json{{"headers", json::array({header("right", "1"), element})}};
    };
    const std::pair<json, std::string> all[] = {
        {1, "kafka: expected an object, got a number"},
        {nullptr, "kafka: expected an object, got null"},
        {{{"keys", "k"}}, "kafka.keys: no such member"},
        {{{"key", 7}},
         "kafka.key: expected a string or {\"base64\": \"…\"} with padding, got a number"},
        {{{"key", {{"base64", "AAA"}}}}, "kafka.key: expected"},
        {{{"key", {{"base64", "AP+A"}, {"text", "x"}}}}, "kafka.key: expected"},
        {{{"headers", {{"run", "42"}}}}, "kafka.headers: expected an array, got an object"},
        {headers("run"), "kafka.headers[1]: expected an object, got a string"},
        {headers({{"value", "42"}}), "kafka.headers[1].name: expected a string that is not empty"},
        {headers({{"name", ""}}), "kafka.headers[1].name: expected a string that is not empty"},
        {headers({{"name", std::string("a\0b", 3)}}), "kafka.headers[1].name: expected"},
        {headers({{"name", 3}}), "kafka.headers[1].name: expected"},
        {headers({{"name", "run"}, {"value", true}}),
         "kafka.headers[1].value: expected a string or"},
        {headers({{"name", "run"}, {"values", "x"}}), "kafka.headers[1].values: no such member"},
        {{{"timestamp", "now"}}, "kafka.timestamp: expected a whole number above 0"},
        {{{"timestamp", 0}}, "kafka.timestamp: expected a whole number above 0"},
        {{{"timestamp", 1.5}}, "got 1.5"},
        {{{"timestamp", std::numeric_limits<std::uint64_t>::max()}}, "kafka.timestamp: expected"},
    };
    for (const auto &pool : all_pools(topic.driver())) {
        const auto producer = producer_on(pool, topic);
        for (const auto &[attributes, expected] : all) {
            const auto pushed = producer->push(Metadata{json{{"kafka", attributes}}}, {}, {});
            const auto why = THROWN_BY(diaspora::Exception, pushed.wait(timeout_ms));
            EXPECT(mentions(why, "pushing an event: metadata field kafka") &&
                   mentions(why, expected));
        }
        EXPECT(mentions(THROWN_BY(diaspora::Exception, producer->flush().wait(timeout_ms)),
                        std::to_string(std::size(all)) + " of the events"));
        EXPECT(producer->push(Metadata{json{{"kafka", {{"key", "k"}}}}}, {}, {}).wait(timeout_ms));
    }
    EXPECT(read(topic, 3)[2].at("kafka").at("key") == "k");
}

void metadata_with_the_field_already_fails_that_pull_only()
{
    const auto name = new_topic("present", 1).name();
    auto without_field = driver().openTopic(name).producer();
    without_field.push(Metadata{R"({"kafka": 1, "number": 1})"});
    without_field.push(number(2));
    EXPECT(without_field.flush().wait(timeout_ms));
    const auto consumer = driver_with_field().openTopic(name).consumer(unique("reader"));
    const auto why = THROWN_BY(diaspora::Exception, consumer.pull().wait(timeout_ms));
    EXPECT(mentions(why, "reading event 0 of partition 0") &&
           mentions(why, "already has a field \"kafka\"") && mentions(why, "attributes_field"));
    EXPECT(number_of(next(consumer)) == 2);
}

void metadata_that_is_not_an_object_stays_unchanged()
{
    const auto topic = new_topic_with_field("values");
    auto producer = topic.producer();
    const std::vector<json> values = {1, "kafka", json::array({"kafka"}), true};
    for (const json &value : values)
        producer.push(Metadata{value});
    EXPECT(producer.flush().wait(timeout_ms) && read(topic, values.size()) == values);
}

void without_the_option_the_field_is_ordinary_metadata()
{
    const auto topic = new_topic("off", 1);
    const json metadata = {{"kafka", {{"key", 7}, {"headers", "none"}}}};
    EXPECT(topic.producer(records("json")).push(Metadata{metadata}).wait(timeout_ms));
    kcat("-P -K: -H run=1 -t " + topic.name(), "k:{\"n\":1}\\n");
    EXPECT(read(topic, 2) == std::vector<json>{metadata, {{"n", 1}}});
    EXPECT(records_of(topic).find("|-1|||" + metadata.dump()) != std::string::npos);
}

/* Returns what `attempt` writes to the standard error stream. */
std::string logged_by(const std::function<void()> &attempt)
{
    FILE *log = std::tmpfile();
    const int original = dup(STDERR_FILENO);
    EXPECT(log && original >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
    attempt();
    dup2(original, STDERR_FILENO);
    close(original);
    std::string text(static_cast<std::size_t>(std::max(0L, lseek(fileno(log), 0, SEEK_END))), ' ');
    std::rewind(log);
    text.resize(std::fread(text.data(), 1, text.size(), log));
    std::fclose(log);
    return text;
}

void core_does_not_warn_of_the_option()
{
    const auto warning = logged_by([] { driver({{"attribute_field", "kafka"}}); });
    EXPECT(warning.find("attribute_field") != std::string::npos);
    EXPECT(logged_by([] { driver_with_field(); }) == "");
}

void option_must_be_the_name_of_a_field()
{
    const auto topic = new_topic(driver_with_field("a \"name\" of its own"), "named", 1);
    EXPECT(topic.producer().push(number(1)).wait(timeout_ms));
    EXPECT(read(topic, 1)[0].at("a \"name\" of its own").contains("timestamp"));
    const std::pair<json, const char *> wrong[] = {
        {"", "is empty; expected the name of a metadata field"},
        {7, "expected a string, got a number"},
        {true, "expected a string, got a boolean"},
        {nullptr, "expected a string, got null"},
        {json::array(), "expected a string, got an array"},
    };
    for (const auto &[name, expected] : wrong) {
        json options = {{"kafka", {{"bootstrap.servers", servers}}}, {"attributes_field", name}};
        EXPECT(mentions(
            THROWN_BY(diaspora::Exception, diaspora::Driver::New(("octopus:" + library).c_str(),
                                                                 Metadata{std::move(options)})),
            std::string("configuration: attributes_field: ") + expected));
    }
}

constexpr test_cases::TestCase all[] = {
    TEST_CASE(attributes_of_records_of_kcat_are_read),
    TEST_CASE(record_without_value_is_read_with_its_key),
    TEST_CASE(pushed_attributes_are_read_by_kcat),
    TEST_CASE(event_that_was_read_can_be_pushed_again_unchanged),
    TEST_CASE(events_with_data_have_their_attributes_too),
    TEST_CASE(validator_sees_metadata_without_the_field),
    TEST_CASE(key_selects_the_partition_as_other_clients_do),
    TEST_CASE(wrong_attributes_fail_that_push_only_and_are_named),
    TEST_CASE(metadata_with_the_field_already_fails_that_pull_only),
    TEST_CASE(metadata_that_is_not_an_object_stays_unchanged),
    TEST_CASE(without_the_option_the_field_is_ordinary_metadata),
    TEST_CASE(core_does_not_warn_of_the_option),
    TEST_CASE(option_must_be_the_name_of_a_field),
};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
