package main

// mosquitto is an MQTT server with and without TLS.
const mosquitto = `printf 'per_listener_settings true\nlistener 1883\nallow_anonymous true\nlistener 8883\nallow_anonymous true\ncertfile %s/server.crt\nkeyfile %s/server.key\n' $D $D > m.conf
exec mosquitto -c m.conf`

func mqtt(name, flags string, l label) scene {
	return scene{
		name: name, needs: []string{"mosquitto", "mosquitto_pub", "mosquitto_sub"}, server: mosquitto, ready: []string{"tcp/1883", "tcp/8883"},
		client: `mosquitto_pub -h $S ` + flags + ` -r -t plans/attack -m 'at dawn'; mosquitto_sub -h $S ` + flags + ` -t 'plans/#' -C 1`,
		flows:  []label{l},
	}
}

// rabbit is a broker with and without TLS; it takes a while to start.
const rabbit = `mkdir -p mnesia log; cat > rabbitmq.conf <<-END
	listeners.tcp.1 = 0.0.0.0:5672
	listeners.ssl.1 = 0.0.0.0:5671
	ssl_options.certfile = $D/server.crt
	ssl_options.keyfile = $D/server.key
	loopback_users = none
END
chown -R rabbitmq .; echo '[].' > enabled; erl=$(dirname $(readlink -f $(command -v rabbitmq-server)))
export RABBITMQ_CONFIG_FILE=$D/rabbitmq.conf RABBITMQ_MNESIA_BASE=$D/mnesia RABBITMQ_LOG_BASE=$D/log RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_ENABLED_PLUGINS_FILE=$D/enabled
exec setpriv --reuid rabbitmq --regid rabbitmq --init-groups /usr/lib/rabbitmq/bin/rabbitmq-server`

// amqp is python3-pika publishing one message and getting it back.
const amqp = `/usr/bin/python3 - <<-END
	import os, pika, ssl
	tls = os.environ.get("TLS")
	context = ssl.create_default_context(cafile="ca.crt")
	context.check_hostname = False
	c = pika.BlockingConnection(pika.ConnectionParameters(os.environ["S"], 5671 if tls else 5672, ssl_options=pika.SSLOptions(context, "server.lab") if tls else None))
	ch = c.channel()
	ch.queue_declare("plans")
	ch.basic_publish("", "plans", b"attack at dawn")
	assert ch.basic_get("plans", auto_ack=True)[2] == b"attack at dawn"
	c.close()
END`

// brokerScenes are what passes messages on.
var brokerScenes = []scene{
	mqtt("mqtt", "", clearAs("tcp/1883", "mqtt")),
	mqtt("mqtt-tls", "-p 8883 --cafile ca.crt --insecure", tlsAt("tcp/8883")),
	{name: "amqp", needs: []string{"rabbitmq-server"}, server: rabbit, ready: []string{"tcp/5672", "tcp/5671"}, client: amqp, flows: []label{clearAs("tcp/5672", "amqp")}},
	{name: "amqp-tls", needs: []string{"rabbitmq-server"}, server: rabbit, ready: []string{"tcp/5672", "tcp/5671"}, client: "export TLS=1\n" + amqp, flows: []label{tlsAt("tcp/5671")}},
	{
		name: "kafka-unanswered", needs: []string{"kcat"}, server: `exec nc -l 9092 > heard`, ready: []string{"tcp/9092"},
		client: `kcat -L -b $S:9092 -m 5 & until_true test -s heard; end $!`,
		flows:  []label{clearAs("tcp/9092", "kafka")},
	},
	{
		name: "mongodb-unanswered", server: `exec nc -l 27017 > heard`, ready: []string{"tcp/27017"},
		client: `/usr/bin/python3 -c 'import os, pymongo; pymongo.MongoClient(os.environ["S"], serverSelectionTimeoutMS=5000).admin.command("ping")' & until_true test -s heard; end $!`,
		flows:  []label{clearAs("tcp/27017", "mongodb")},
	},
}
