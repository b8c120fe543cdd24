/// @file
/// Drivers: creating, finding and opening topics. Part of octopus.hpp.

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

/// Options of a new topic. Empty texts mean the defaults. The members are views: the texts must
/// live until the call of `create_topic`.
///
/// @since 0.1
struct TopicOptions {
    /// A JSON object: `num_partitions`, `replication_factor`, `disable_info_topic`, `config`; see
    /// docs/reference/configuration.md.
    std::string_view options = {};
    /// The validator, a JSON object with a `"type"`.
    std::string_view validator = {};
    /// The selector, a JSON object with a `"type"`.
    std::string_view selector = {};
    /// The serializer, a JSON object with a `"type"`.
    std::string_view serializer = {};
};

/// A token for SASL OAUTHBEARER.
///
/// @since 0.1
struct Token {
    /// The token.
    std::string value;
    /// The principal that the token is for; may be empty.
    std::string principal;
    /// The time at which the token expires.
    std::chrono::system_clock::time_point expires;
};

/// Callbacks that the host provides to a driver and to everything that is made from it.
///
/// Only `token` and `authorization` may throw, and none may wait for the plugin.
///
/// @since 0.1
struct Services {
    /// Receives log messages: the level (`OCTOPUS_LOG_…`), the component of Octopus that logs, the
    /// message. Without it, warnings and errors are written to the standard error stream.
    ///
    /// @note Plugin threads, and threads of the host inside a call; several calls at the same time.
    std::function<void(std::int32_t level, std::string_view source, std::string_view message)> log =
        {};
    /// Receives librdkafka's statistics: the user of the client, the statistics as JSON.
    ///
    /// @note The client's plugin thread.
    std::function<void(std::string_view client, std::string_view json)> statistics = {};
    /// Receives errors that a client can't recover from: the user of the client, librdkafka's code,
    /// the message.
    ///
    /// @note The client's plugin thread.
    std::function<void(std::string_view client, std::int32_t kafka_code, std::string_view message)>
        fatal = {};
    /// Receives rebalances: the name of the consumer, the change (`OCTOPUS_PARTITIONS_…`), the
    /// partitions.
    ///
    /// @note The consumer's plugin thread.
    std::function<void(std::string_view consumer, std::int32_t change,
                       const std::vector<std::uint32_t> &partitions)>
        rebalance = {};
    /// Provides a token for SASL OAUTHBEARER when a client needs one. Its argument is
    /// `sasl.oauthbearer.config`. The message of an exception is the reason why there is none.
    ///
    /// @note Threads for this purpose, several calls at the same time; it may block.
    std::function<Token(std::string_view config)> token = {};
    /// Provides the HTTP header `Authorization` for the topic service, for example `Bearer …`: the
    /// first one, unless the configuration has it, and a new one whenever the service rejects the
    /// current one. The message of an exception is the reason why there is none.
    ///
    /// @note The thread of the call that needs it.
    std::function<std::string()> authorization = {};
    /// Whether the host owns the components of its topics and pushes with preparations. Then the
    /// plugin creates only components of type `default` and of registered types, and does not warn
    /// of missing ones.
    bool has_components = false;
};

/// One configuration of a Kafka cluster, from which topics are created and opened.
///
/// Functions that wait for brokers wait at most the driver's `timeout_ms`, and then throw Error
/// with OCTOPUS_UNREACHABLE.
///
/// @since 0.1
class Driver {
public:
    /// Creates a driver. Does not wait for a broker.
    ///
    /// @param library The plugin.
    /// @param config The configuration as a JSON object; see docs/reference/configuration.md.
    /// @param services Callbacks of the host.
    /// @throws Error with OCTOPUS_INVALID_CONFIGURATION or OCTOPUS_UNSUPPORTED.
    Driver(const Library &library, std::string_view config, Services services = {})
        : handle_(create(library.api(), config, std::move(services)))
    {
    }

    /// Creates a topic, and waits until it can be opened.
    ///
    /// @param name The name of the topic.
    /// @param options The options and components.
    /// @throws Error for example with OCTOPUS_TOPIC_EXISTS, OCTOPUS_COMPONENT or
    /// OCTOPUS_WOULD_DEADLOCK.
    void create_topic(std::string_view name, const TopicOptions &options = {}) const
    {
        auto args = detail::sized<octopus_create_topic_args>();
        args.options = detail::text(options.options);
        args.validator = detail::text(options.validator);
        args.selector = detail::text(options.selector);
        args.serializer = detail::text(options.serializer);
        detail::call(handle_.api(), handle_.api().driver->create_topic, handle_.get(),
                     detail::text(name), static_cast<const octopus_create_topic_args *>(&args));
    }

    /// Opens an existing topic. Waits for an unknown one for the driver's `open_retry_ms`.
    ///
    /// @param name The name of the topic.
    /// @return The topic.
    /// @throws Error for example with OCTOPUS_UNKNOWN_TOPIC or OCTOPUS_COMPONENT.
    Topic open_topic(std::string_view name) const
    {
        return Topic(detail::make<octopus_topic>(handle_.api(), handle_.api().driver->open_topic,
                                                 handle_.get(), detail::text(name)));
    }

    /// Deletes a topic and its info topic, and waits until both are gone.
    ///
    /// @param name The name of the topic.
    /// @throws Error for example with OCTOPUS_UNKNOWN_TOPIC or OCTOPUS_UNSUPPORTED.
    void delete_topic(std::string_view name) const
    {
        detail::call(handle_.api(), handle_.api().driver->delete_topic, handle_.get(),
                     detail::text(name));
    }

    /// Removes all records of a topic. Its components stay.
    ///
    /// @param name The name of the topic.
    /// @throws Error for example with OCTOPUS_UNKNOWN_TOPIC or OCTOPUS_UNSUPPORTED.
    void empty_topic(std::string_view name) const
    {
        detail::call(handle_.api(), handle_.api().driver->empty_topic, handle_.get(),
                     detail::text(name));
    }

    /// @param name The name of a topic.
    /// @return Whether the topic exists.
    bool topic_exists(std::string_view name) const
    {
        return detail::get<std::int32_t>(handle_.api(), handle_.api().driver->topic_exists,
                                         handle_.get(), detail::text(name)) != 0;
    }

    /// @return `{name: {"validator":…,"selector":…,"serializer":…,"num_partitions":n}}` for all
    /// topics that have an info topic.
    std::string list_topics() const
    {
        return detail::take_string(detail::make<octopus_string>(
            handle_.api(), handle_.api().driver->list_topics, handle_.get()));
    }

    /// @return The thread pool that is used where none is passed. It has no threads.
    ThreadPool default_thread_pool() const
    {
        return ThreadPool(detail::make<octopus_thread_pool>(
            handle_.api(), handle_.api().driver->default_thread_pool, handle_.get()));
    }

    /// @return The configuration with its defaults and masked secrets, versions and resources, as
    /// JSON.
    std::string describe() const
    {
        return detail::take_string(detail::make<octopus_string>(
            handle_.api(), handle_.api().driver->describe, handle_.get()));
    }

    /// @return The figures of the driver as of now, which are always counted. Contacts no broker.
    octopus_stats stats() const
    {
        octopus_stats stats{};
        stats.size = sizeof stats;
        detail::call(handle_.api(), handle_.api().driver->stats, handle_.get(), &stats);
        return stats;
    }

    /// @return The same, and the figures of each producer, consumer and partition, as JSON.
    std::string stats_json() const
    {
        return detail::take_string(detail::make<octopus_string>(
            handle_.api(), handle_.api().driver->stats_json, handle_.get()));
    }

    /// Registers validators of a type, for topics that are created or opened from then on.
    ///
    /// @param type The `"type"` of the validators.
    /// @param make Creates a validator from its JSON object.
    /// @throws Error with OCTOPUS_INVALID_ARGUMENT if the type is built in or registered already.
    void register_validator(std::string_view type, Make<Validator> make) const
    {
        auto component = component_of(std::move(make));
        component.validate = [](void *instance, octopus_text metadata,
                                const octopus_bytes *segments, std::uint64_t count,
                                const octopus_component_reply *reply) noexcept {
            return detail::run_callback(reply, [&] {
                static_cast<const Validator *>(instance)->validate(detail::view(metadata),
                                                                   detail::views(segments, count));
            });
        };
        register_component(OCTOPUS_ROLE_VALIDATOR, type, component);
    }

    /// Registers selectors of a type, for topics that are created or opened from then on.
    ///
    /// @param type The `"type"` of the selectors.
    /// @param make Creates a selector from its JSON object.
    /// @throws Error with OCTOPUS_INVALID_ARGUMENT if the type is built in or registered already.
    void register_selector(std::string_view type, Make<Selector> make) const
    {
        auto component = component_of(std::move(make));
        component.select = [](void *instance, octopus_text metadata, std::int64_t requested,
                              std::uint32_t partitions, std::uint32_t *partition,
                              const octopus_component_reply *reply) noexcept {
            return detail::run_callback(reply, [&] {
                *partition = static_cast<Selector *>(instance)->select(
                    detail::view(metadata), detail::requested_partition(requested), partitions);
            });
        };
        register_component(OCTOPUS_ROLE_SELECTOR, type, component);
    }

    /// Registers serializers of a type, for topics that are created or opened from then on.
    ///
    /// @param type The `"type"` of the serializers.
    /// @param make Creates a serializer from its JSON object.
    /// @throws Error with OCTOPUS_INVALID_ARGUMENT if the type is built in or registered already.
    void register_serializer(std::string_view type, Make<Serializer> make) const
    {
        auto component = component_of(std::move(make));
        component.serialize = [](void *instance, octopus_text json,
                                 const octopus_component_reply *reply) noexcept {
            return detail::run_callback(reply, [&] {
                static_cast<const Serializer *>(instance)->serialize(detail::view(json),
                                                                     Serializer::output(reply));
            });
        };
        component.deserialize = [](void *instance, octopus_bytes bytes,
                                   const octopus_component_reply *reply) noexcept {
            return detail::run_callback(reply, [&] {
                static_cast<const Serializer *>(instance)->deserialize(detail::view(bytes),
                                                                       Serializer::output(reply));
            });
        };
        register_component(OCTOPUS_ROLE_SERIALIZER, type, component);
    }

private:
    template <class Component> static octopus_component component_of(Make<Component> make)
    {
        auto component = detail::sized<octopus_component>();
        component.context = detail::into_context(
            std::make_unique<Make<Component>>(std::move(make)));
        component.destroy = detail::destroy<Make<Component>>;
        component.make = [](void *context, octopus_text json, void **instance,
                            const octopus_component_reply *reply) noexcept {
            return detail::run_callback(reply, [&] {
                *instance = detail::into_context(
                    (*static_cast<Make<Component> *>(context))(detail::view(json)));
            });
        };
        component.destroy_instance = detail::destroy<Component>;
        return component;
    }

    void register_component(std::int32_t role, std::string_view type,
                            const octopus_component &component) const
    {
        detail::call(handle_.api(), handle_.api().driver->register_component, handle_.get(), role,
                     detail::text(type), &component);
    }

    static detail::Handle<octopus_driver> create(const octopus_api &api, std::string_view config,
                                                 Services services)
    {
        auto callbacks = detail::sized<octopus_host_services>();
        callbacks.has_components = services.has_components;
        if (services.log) {
            set_context(callbacks.log, std::move(services.log));
            callbacks.log.function = [](void *context, std::int32_t level, octopus_text source,
                                        octopus_text message) noexcept {
                (*static_cast<decltype(Services::log) *>(context))(level, detail::view(source),
                                                                   detail::view(message));
            };
        }
        if (services.statistics) {
            set_context(callbacks.statistics, std::move(services.statistics));
            callbacks.statistics.function = [](void *context, octopus_text client,
                                               octopus_text json) noexcept {
                (*static_cast<decltype(Services::statistics) *>(context))(detail::view(client),
                                                                          detail::view(json));
            };
        }
        if (services.fatal) {
            set_context(callbacks.fatal, std::move(services.fatal));
            callbacks.fatal.function = [](void *context, octopus_text client, std::int32_t code,
                                          octopus_text message) noexcept {
                (*static_cast<decltype(Services::fatal) *>(context))(detail::view(client), code,
                                                                     detail::view(message));
            };
        }
        if (services.rebalance) {
            set_context(callbacks.rebalance, std::move(services.rebalance));
            callbacks.rebalance.function = [](void *context, octopus_text consumer,
                                              std::int32_t change, const std::uint32_t *partitions,
                                              std::uint64_t count) noexcept {
                (*static_cast<decltype(Services::rebalance) *>(context))(
                    detail::view(consumer), change,
                    std::vector<std::uint32_t>(partitions, partitions + count));
            };
        }
        if (services.token) {
            set_context(callbacks.token, std::move(services.token));
            callbacks.token.function = [](void *context, octopus_text token_config,
                                          const octopus_token_reply *reply) noexcept {
                return detail::run_callback(reply, [&] {
                    const Token token = (*static_cast<decltype(Services::token) *>(context))(
                        detail::view(token_config));
                    const auto end = std::chrono::duration_cast<std::chrono::milliseconds>(
                        token.expires.time_since_epoch());
                    reply->accept(reply->token, detail::text(token.value),
                                  detail::text(token.principal), end.count());
                });
            };
        }
        if (services.authorization) {
            set_context(callbacks.authorization, std::move(services.authorization));
            callbacks.authorization.function = [](void *context, octopus_text,
                                                  const octopus_token_reply *reply) noexcept {
                return detail::run_callback(reply, [&] {
                    const std::string text = (*static_cast<decltype(Services::authorization) *>(
                        context))();
                    reply->accept(reply->token, detail::text(text), octopus_text{}, 0);
                });
            };
        }
        return detail::make<octopus_driver>(api, api.driver->create, detail::text(config),
                                            static_cast<const octopus_host_services *>(&callbacks));
    }

    /// Sets the context and the destructor of a callback, but not its function.
    template <class Callback, class Function>
    static void set_context(Callback &callback, Function function)
    {
        callback.context = detail::into_context(std::make_unique<Function>(std::move(function)));
        callback.destroy = detail::destroy<Function>;
    }

    detail::Handle<octopus_driver> handle_;
};

} // namespace octopus

#endif /* OCTOPUS_DRIVER_HPP */
