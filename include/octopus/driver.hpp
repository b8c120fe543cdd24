/* Drivers, which make, find and open topics. A part of octopus.hpp. */

#ifndef OCTOPUS_DRIVER_HPP
#define OCTOPUS_DRIVER_HPP

#include "component.hpp"
#include "detail.hpp"
#include "library.hpp"
#include "thread_pool.hpp"
#include "topic.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace octopus {

/* How a topic is to be made: JSON objects, or nothing for the defaults. */
struct TopicOptions {
    /* `num_partitions`, `replication_factor`, `disable_info_topic`, `config` (docs/configuration.md). */
    std::string_view options = {};
    std::string_view validator = {};
    std::string_view selector = {};
    std::string_view serializer = {};
};

/* What a client shows to a broker instead of a password. */
struct Token {
    std::string value;
    /* Whom it is for; may be empty. */
    std::string principal;
    std::chrono::system_clock::time_point expires;
};

/* What your program provides to a driver and all that comes from it. None of these but `token` and `authorization` may
 * throw, none may wait for the plugin. */
struct Services {
    /* A level (OCTOPUS_LOG_…), the part of Octopus that speaks, the message. None: warnings go to the standard error. */
    std::function<void(std::int32_t level, std::string_view source, std::string_view message)> log = {};
    /* The client's name, and librdkafka's statistics as JSON. */
    std::function<void(std::string_view client, std::string_view json)> statistics = {};
    /* The client's name, Kafka's code, and the error that it can't recover from. */
    std::function<void(std::string_view client, std::int32_t kafka_code, std::string_view message)> fatal = {};
    /* The consumer, an OCTOPUS_PARTITIONS_…, and which partitions. */
    std::function<void(std::string_view consumer, std::int32_t what, const std::vector<std::uint32_t> &partitions)>
        rebalance = {};
    /* Makes a token for SASL OAUTHBEARER when a client needs one, from `sasl.oauthbearer.config`; on threads made for it,
     * several at a time, and it may take its time. What it throws is why there is none. */
    std::function<Token(std::string_view config)> token = {};
    /* Gives the header `authorization` for the topic service, `Bearer …`: the first one, unless the configuration has it,
     * and the next one when the service refuses it. What it throws is why there is none. */
    std::function<std::string()> authorization = {};
    /* Whether your program has the components of its topics itself, and pushes with preparations: then no others are made,
     * or missed with a warning. */
    bool has_components = false;
};

/* One configured way to a Kafka. */
class Driver {
public:
    /* From JSON (docs/configuration.md). Asks no broker yet. */
    Driver(const Library &library, std::string_view config, Services services = {})
        : handle_(create(library.api(), config, std::move(services)))
    {
    }

    /* Makes a topic and waits until it can be opened. */
    void create_topic(std::string_view name, const TopicOptions &how = {}) const
    {
        auto args = detail::sized<octopus_create_topic_args>();
        args.options = detail::text(how.options);
        args.validator = detail::text(how.validator);
        args.selector = detail::text(how.selector);
        args.serializer = detail::text(how.serializer);
        detail::call(handle_.api(), handle_.api().driver->create_topic, handle_.get(), detail::text(name),
                     static_cast<const octopus_create_topic_args *>(&args));
    }

    /* Opens an existing topic; an unknown one is looked for during `open_retry_ms`. */
    Topic open_topic(std::string_view name) const
    {
        return Topic(detail::make<octopus_topic>(handle_.api(), handle_.api().driver->open_topic, handle_.get(),
                                                 detail::text(name)));
    }

    /* Deletes a topic with its info topic, and waits until both are gone. */
    void delete_topic(std::string_view name) const
    {
        detail::call(handle_.api(), handle_.api().driver->delete_topic, handle_.get(), detail::text(name));
    }

    /* Removes all records of a topic; its components stay. */
    void empty_topic(std::string_view name) const
    {
        detail::call(handle_.api(), handle_.api().driver->empty_topic, handle_.get(), detail::text(name));
    }

    bool topic_exists(std::string_view name) const
    {
        return detail::get<std::int32_t>(handle_.api(), handle_.api().driver->topic_exists, handle_.get(),
                                         detail::text(name)) != 0;
    }

    /* {name: {"validator":…,"selector":…,"serializer":…,"num_partitions":n}} of every topic that has an info topic. */
    std::string list_topics() const
    {
        return detail::taken(
            detail::make<octopus_string>(handle_.api(), handle_.api().driver->list_topics, handle_.get()));
    }

    /* The pool of 0 threads that is used where none is given. */
    ThreadPool default_thread_pool() const
    {
        return ThreadPool(detail::make<octopus_thread_pool>(handle_.api(), handle_.api().driver->default_thread_pool,
                                                            handle_.get()));
    }

    /* The configuration with its defaults, secrets masked, and what the driver is made of, as JSON. */
    std::string describe() const
    {
        return detail::taken(
            detail::make<octopus_string>(handle_.api(), handle_.api().driver->describe, handle_.get()));
    }

    /* Lets you provide the components of a type, each made from its JSON, for topics made or opened from then on. */
    void register_validator(std::string_view type, Make<Validator> make) const
    {
        auto component = made_by(std::move(make));
        component.validate = [](void *instance, octopus_text metadata, const octopus_bytes *segments,
                                std::uint64_t count, const octopus_component_reply *reply) noexcept {
            return detail::answer(reply, [&] {
                static_cast<const Validator *>(instance)->validate(detail::view(metadata),
                                                                   detail::views(segments, count));
            });
        };
        register_component(OCTOPUS_ROLE_VALIDATOR, type, component);
    }

    void register_selector(std::string_view type, Make<Selector> make) const
    {
        auto component = made_by(std::move(make));
        component.select = [](void *instance, octopus_text metadata, std::int64_t requested, std::uint32_t partitions,
                              std::uint32_t *partition, const octopus_component_reply *reply) noexcept {
            return detail::answer(reply, [&] {
                *partition = static_cast<Selector *>(instance)->select(
                    detail::view(metadata), detail::requested_partition(requested), partitions);
            });
        };
        register_component(OCTOPUS_ROLE_SELECTOR, type, component);
    }

    void register_serializer(std::string_view type, Make<Serializer> make) const
    {
        auto component = made_by(std::move(make));
        component.serialize = [](void *instance, octopus_text json, const octopus_component_reply *reply) noexcept {
            return detail::answer(reply, [&] {
                static_cast<const Serializer *>(instance)->serialize(detail::view(json), Serializer::output(reply));
            });
        };
        component.deserialize = [](void *instance, octopus_bytes bytes,
                                   const octopus_component_reply *reply) noexcept {
            return detail::answer(reply, [&] {
                static_cast<const Serializer *>(instance)->deserialize(detail::view(bytes),
                                                                       Serializer::output(reply));
            });
        };
        register_component(OCTOPUS_ROLE_SERIALIZER, type, component);
    }

private:
    template <class Component> static octopus_component made_by(Make<Component> make)
    {
        auto component = detail::sized<octopus_component>();
        component.context = detail::give_away(std::make_unique<Make<Component>>(std::move(make)));
        component.destroy = detail::destroy<Make<Component>>;
        component.make = [](void *context, octopus_text json, void **instance,
                            const octopus_component_reply *reply) noexcept {
            return detail::answer(reply, [&] {
                *instance = detail::give_away((*static_cast<Make<Component> *>(context))(detail::view(json)));
            });
        };
        component.destroy_instance = detail::destroy<Component>;
        return component;
    }

    void register_component(std::int32_t kind, std::string_view type, const octopus_component &component) const
    {
        detail::call(handle_.api(), handle_.api().driver->register_component, handle_.get(), kind, detail::text(type),
                     &component);
    }

    static detail::Handle<octopus_driver> create(const octopus_api &api, std::string_view config, Services services)
    {
        auto given = detail::sized<octopus_host_services>();
        given.has_components = services.has_components;
        if (services.log) {
            offer(given.log, std::move(services.log));
            given.log.function = [](void *context, std::int32_t level, octopus_text source,
                                    octopus_text message) noexcept {
                (*static_cast<decltype(Services::log) *>(context))(level, detail::view(source), detail::view(message));
            };
        }
        if (services.statistics) {
            offer(given.statistics, std::move(services.statistics));
            given.statistics.function = [](void *context, octopus_text client, octopus_text json) noexcept {
                (*static_cast<decltype(Services::statistics) *>(context))(detail::view(client), detail::view(json));
            };
        }
        if (services.fatal) {
            offer(given.fatal, std::move(services.fatal));
            given.fatal.function = [](void *context, octopus_text client, std::int32_t code,
                                      octopus_text message) noexcept {
                (*static_cast<decltype(Services::fatal) *>(context))(detail::view(client), code, detail::view(message));
            };
        }
        if (services.rebalance) {
            offer(given.rebalance, std::move(services.rebalance));
            given.rebalance.function = [](void *context, octopus_text consumer, std::int32_t what,
                                          const std::uint32_t *partitions, std::uint64_t count) noexcept {
                (*static_cast<decltype(Services::rebalance) *>(context))(
                    detail::view(consumer), what, std::vector<std::uint32_t>(partitions, partitions + count));
            };
        }
        if (services.token) {
            offer(given.token, std::move(services.token));
            given.token.function = [](void *context, octopus_text token_config,
                                      const octopus_token_reply *reply) noexcept {
                return detail::answer(reply, [&] {
                    const Token token = (*static_cast<decltype(Services::token) *>(context))(detail::view(token_config));
                    const auto end = std::chrono::duration_cast<std::chrono::milliseconds>(token.expires.time_since_epoch());
                    reply->accept(reply->token, detail::text(token.value), detail::text(token.principal), end.count());
                });
            };
        }
        if (services.authorization) {
            offer(given.authorization, std::move(services.authorization));
            given.authorization.function = [](void *context, octopus_text,
                                              const octopus_token_reply *reply) noexcept {
                return detail::answer(reply, [&] {
                    const std::string text = (*static_cast<decltype(Services::authorization) *>(context))();
                    reply->accept(reply->token, detail::text(text), octopus_text{}, 0);
                });
            };
        }
        return detail::make<octopus_driver>(api, api.driver->create, detail::text(config),
                                            static_cast<const octopus_host_services *>(&given));
    }

    /* Context and destroy of a callback; its function is to be set. */
    template <class Callback, class Function> static void offer(Callback &callback, Function function)
    {
        callback.context = detail::give_away(std::make_unique<Function>(std::move(function)));
        callback.destroy = detail::destroy<Function>;
    }

    detail::Handle<octopus_driver> handle_;
};

} // namespace octopus

#endif /* OCTOPUS_DRIVER_HPP */
