package promises

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/proxy"
	"github.com/sealmesh/sealmesh/test/lab"
)

// ask gets a page of the admin endpoint of a workload's proxy, from inside the
// workload.
func ask(tb testing.TB, w *lab.Workload, path string) (status int, body []byte) {
	tb.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.Dial(ctx, network, address)
		},
	}}
	url := "http://127.0.0.1:" + strconv.Itoa(ports.Admin) + path
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, url, http.NoBody)
	must(tb, err)
	res, err := client.Do(req)
	must(tb, err)
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	must(tb, err)
	return res.StatusCode, body
}

// metrics are the metrics of a workload's proxy as it shows them:
// `sealmesh_handshakes_total{direction="outbound",result="ok"}`.
func metrics(tb testing.TB, w *lab.Workload) map[string]float64 {
	tb.Helper()
	_, body := ask(tb, w, "/metrics")
	out := map[string]float64{}
	for line := range bytes.Lines(body) {
		name, value, found := strings.Cut(strings.TrimSpace(string(line)), " ")
		if f, err := strconv.ParseFloat(value, 64); found && err == nil {
			out[name] = f
		}
	}
	return out
}

// connections is what a workload's proxy says of its connections and lanes.
func connections(tb testing.TB, w *lab.Workload) proxy.Report {
	tb.Helper()
	_, body := ask(tb, w, "/connections")
	var r proxy.Report
	must(tb, json.Unmarshal(body, &r))
	return r
}
