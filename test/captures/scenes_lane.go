package main

import "github.com/sealmesh/sealmesh/internal/verify"

// up seals both workloads.
const up = `mkdir -m 700 mesh; cat > mesh/objects.yaml <<-END
	apiVersion: sealmesh.io/v1alpha1
	kind: Mesh
	metadata: {name: default}
	spec: {trustDomain: demo.local, mtls: {inbound: Strict, outbound: Strict}}
	---
	apiVersion: sealmesh.io/v1alpha1
	kind: Node
	metadata: {name: n1}
	spec: {addresses: [10.77.0.11]}
	---
	apiVersion: sealmesh.io/v1alpha1
	kind: Workload
	metadata: {namespace: shop, name: client}
	spec: {node: n1, netns: /run/netns/$NS_C, addresses: [$C, "$C6"]}
	---
	apiVersion: sealmesh.io/v1alpha1
	kind: Workload
	metadata: {namespace: shop, name: server}
	spec: {node: n1, netns: /run/netns/$NS_S, addresses: [$S, "$S6"]}
END
exec $BIN/sealmesh up -f mesh --log-format json --drain 1s > up.log 2>&1
`

// attested asks both proxies for their lanes.
const attested = `admin() { $BIN/sealmesh status -f mesh -o json | /usr/bin/python3 -c 'import json, sys; print([w["admin"] for w in json.load(sys.stdin) if w["workload"].endswith("'$1'")][0])'; }
sealed() { [ $($BIN/sealmesh status -f mesh -o json | grep -c '"admin": [1-9]') = 2 ]; }
lanes() { ip netns exec $1 curl -sS http://127.0.0.1:$(admin $2)/connections; }
until_true sealed || { tail -n 5 up.log; $BIN/sealmesh status -f mesh -o json; exit 1; } >&2
`

// laneScenes are our own mesh; what its proxies say of the lanes is kept beside.
var laneScenes = []scene{
	{
		name: "lane", mesh: up,
		server: `exec socat TCP-LISTEN:7000,fork,reuseaddr SYSTEM:cat`, ready: []string{"tcp/7000"},
		client: attested + `coproc { nc $S 7000; }; echo 'attack at dawn' >&"${COPROC[1]}"; read -rt 20 heard <&"${COPROC[0]}"; [ "$heard" = 'attack at dawn' ]
			lanes $NS_C client > client.json; lanes $NS_S server > server.json`,
		keep:  []string{"client.json", "server.json"},
		flows: []label{{at: "tcp/7000", truth: sealed, verdict: verify.TLS, version: "1.3", group: "X25519MLKEM768"}},
	},
	{
		name: "lane-http", mesh: up, server: nginx, ready: []string{"tcp/80"},
		client: attested + `curl -sS -o /dev/null -o /dev/null http://$S/page.txt http://$S/page.txt
			lanes $NS_C client > client.json; lanes $NS_S server > server.json`,
		keep:  []string{"client.json", "server.json"},
		flows: []label{{at: "tcp/80", truth: sealed, verdict: verify.TLS, version: "1.3", group: "X25519MLKEM768"}},
	},
}
