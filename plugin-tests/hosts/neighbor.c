/*
 * A host that uses the librdkafka and the OpenSSL of the system, with all their symbols global, at
 * the same time as those inside the plugin. Both librdkafkas write to the same topic, the system's
 * OpenSSL makes TLS handshakes with the broker, and all records are read.
 *
 *     neighbor LIBRARY "first"|"last" CONFIG TOPIC BOOTSTRAP [CA CERTIFICATE KEY]
 *
 * "first" loads the plugin before the system's libraries, "last" after them. With certificates all
 * connections use TLS.
 */
#include "host.h"

#include <netdb.h>
#include <pthread.h>
#include <sys/socket.h>

enum { ROUNDS = 20 };

static const octopus_api *octopus;
static void *rdkafka, *openssl;
static const char *bootstrap, *topic_name, *authority, *certificate, *key;

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (!found)
        fprintf(stderr, "%s is missing\n", name);
    EXPECT(found != NULL);
    return found;
}

/* Declares the functions as the headers of librdkafka do, with opaque types as `void`. */
static void *push_with_system_librdkafka(void *unused)
{
    void *(*conf_new)(void), *(*make)(int, void *, char *, size_t),
        *(*topic_new)(void *, const char *, void *);
    int (*conf_set)(void *, const char *, const char *, char *, size_t), (*flush)(void *, int);
    int (*produce)(void *, int32_t, int, void *, size_t, const void *, size_t, void *);
    void (*topic_destroy)(void *), (*destroy)(void *);
    *(void **)&conf_new = symbol(rdkafka, "rd_kafka_conf_new");
    *(void **)&conf_set = symbol(rdkafka, "rd_kafka_conf_set");
    *(void **)&make = symbol(rdkafka, "rd_kafka_new");
    *(void **)&topic_new = symbol(rdkafka, "rd_kafka_topic_new");
    *(void **)&produce = symbol(rdkafka, "rd_kafka_produce");
    *(void **)&flush = symbol(rdkafka, "rd_kafka_flush");
    *(void **)&topic_destroy = symbol(rdkafka, "rd_kafka_topic_destroy");
    *(void **)&destroy = symbol(rdkafka, "rd_kafka_destroy");

    for (int round = 0; round < ROUNDS; round++) {
        char why[256];
        void *conf = conf_new();
        EXPECT(conf_set(conf, "bootstrap.servers", bootstrap, why, sizeof why) == 0);
        if (authority) {
            EXPECT(conf_set(conf, "security.protocol", "SSL", why, sizeof why) == 0);
            EXPECT(conf_set(conf, "ssl.ca.location", authority, why, sizeof why) == 0);
            EXPECT(conf_set(conf, "ssl.certificate.location", certificate, why, sizeof why) == 0);
            EXPECT(conf_set(conf, "ssl.key.location", key, why, sizeof why) == 0);
        }
        void *client = make(0 /* RD_KAFKA_PRODUCER */, conf, why, sizeof why);
        EXPECT(client != NULL);
        void *handle = topic_new(client, topic_name, NULL);
        EXPECT(handle != NULL);
        /* 10 bytes of metadata: the length of the text, 2, and the text; no data. */
        char record[] = "\x0a\0\0\0\0\0\0\0"
                        "\0\0\0\0\0\0\0\0"
                        "\x02\0\0\0\0\0\0\0"
                        "77";
        EXPECT(produce(handle, 0, 2 /* RD_KAFKA_MSG_F_COPY */, record, 26, NULL, 0, NULL) == 0);
        EXPECT(flush(client, 30000) == 0);
        topic_destroy(handle);
        destroy(client);
    }
    return unused;
}

static int connect_to_broker(void)
{
    char host[256];
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
    snprintf(host, sizeof host, "%s", bootstrap);
    char *port = strrchr(host, ':');
    EXPECT(port != NULL);
    *port++ = 0;
    EXPECT(getaddrinfo(host, port, &hints, &found) == 0);
    int to = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    EXPECT(to >= 0 && connect(to, found->ai_addr, found->ai_addrlen) == 0);
    freeaddrinfo(found);
    return to;
}

static void *shake_hands_with_system_openssl(void *unused)
{
    const void *(*method)(void);
    void *(*ctx_new)(const void *), *(*ssl_new)(void *);
    int (*trust)(void *, const char *, const char *), (*show)(void *, const char *);
    int (*open_by)(void *, const char *, int);
    int (*set_fd)(void *, int), (*shake)(void *), (*end)(void *);
    long (*verified)(const void *);
    void (*verify)(void *, int, void *), (*ssl_free)(void *), (*ctx_free)(void *);
    *(void **)&method = symbol(openssl, "TLS_client_method");
    *(void **)&ctx_new = symbol(openssl, "SSL_CTX_new");
    *(void **)&trust = symbol(openssl, "SSL_CTX_load_verify_locations");
    *(void **)&show = symbol(openssl, "SSL_CTX_use_certificate_chain_file");
    *(void **)&open_by = symbol(openssl, "SSL_CTX_use_PrivateKey_file");
    *(void **)&verify = symbol(openssl, "SSL_CTX_set_verify");
    *(void **)&ssl_new = symbol(openssl, "SSL_new");
    *(void **)&set_fd = symbol(openssl, "SSL_set_fd");
    *(void **)&shake = symbol(openssl, "SSL_connect");
    *(void **)&verified = symbol(openssl, "SSL_get_verify_result");
    *(void **)&end = symbol(openssl, "SSL_shutdown");
    *(void **)&ssl_free = symbol(openssl, "SSL_free");
    *(void **)&ctx_free = symbol(openssl, "SSL_CTX_free");

    for (int round = 0; authority && round < ROUNDS; round++) {
        void *context = ctx_new(method());
        EXPECT(context && trust(context, authority, NULL) == 1 && show(context, certificate) == 1);
        EXPECT(open_by(context, key, 1 /* SSL_FILETYPE_PEM */) == 1);
        verify(context, 1 /* SSL_VERIFY_PEER */, NULL);
        void *connection = ssl_new(context);
        int to = connect_to_broker();
        EXPECT(connection && set_fd(connection, to) == 1);
        EXPECT(shake(connection) == 1 && verified(connection) == 0 /* X509_V_OK */);
        end(connection);
        ssl_free(connection);
        ctx_free(context);
        close(to);
    }
    return unused;
}

static void *push_with_plugin(void *topic)
{
    for (int round = 0; round < ROUNDS; round++) {
        octopus_producer *made = make_producer(
            octopus, topic); /* a new connection, hence a new handshake, in each round */
        deliver(octopus, made, 33);
        SUCCEEDS(octopus, octopus->producer->close(made, 60000, error));
        octopus->producer->release(made);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 6 && argc != 9)
        return fprintf(stderr,
                       "usage: %s LIBRARY first|last CONFIG TOPIC BOOTSTRAP [CA CERTIFICATE KEY]\n",
                       argv[0]),
               1;
    topic_name = argv[4];
    bootstrap = argv[5];
    if (argc == 9)
        authority = argv[6], certificate = argv[7], key = argv[8];
    int is_first = strcmp(argv[2], "first") == 0;
    octopus_topic *topic = NULL;
    octopus_driver *driver = NULL;
    for (int step = 0; step < 2; step++) {
        if (step == !is_first) {
            octopus = registered(dlopen(argv[1], RTLD_NOW | (is_first ? RTLD_GLOBAL : RTLD_LOCAL)));
            driver = make_driver(octopus, argv[3], NULL);
            topic = make_topic(octopus, driver, topic_name);
        } else {
            EXPECT((rdkafka = dlopen("librdkafka.so.1", RTLD_NOW | RTLD_GLOBAL)) != NULL);
            EXPECT((openssl = dlopen("libssl.so.3", RTLD_NOW | RTLD_GLOBAL)) != NULL);
        }
    }

    void *(*const work[])(void *) = {push_with_plugin, push_with_system_librdkafka,
                                     shake_hands_with_system_openssl};
    pthread_t threads[3];
    for (int at = 0; at < 3; at++)
        EXPECT(pthread_create(&threads[at], NULL, work[at], topic) == 0);
    for (int at = 0; at < 3; at++)
        EXPECT(pthread_join(threads[at], NULL) == 0);

    octopus_consumer *consumer = make_consumer(octopus, topic, topic_name);
    int own = 0, others = 0;
    for (int at = 0; at < 2 * ROUNDS; at++) {
        uint64_t number = pull(octopus, consumer);
        own += number == 33;
        others += number == 77;
    }
    EXPECT(own == ROUNDS && others == ROUNDS);
    SUCCEEDS(octopus, octopus->consumer->close(consumer, 60000, error));
    octopus->consumer->release(consumer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    puts("both libraries wrote, and all records were read");
    return 0;
}
