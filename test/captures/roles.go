package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// roles are the programs of scenes that are no other's: Go's own TLS, and gRPC.
var roles = map[string]func(ctx context.Context, args []string, out io.Writer) error{
	"grpc-serve":  serveGRPC,
	"grpc-call":   callGRPC,
	"https-serve": serveHTTPS,
	"https-call":  callHTTPS,
}

// procedure is the one call there is.
const procedure = "/plans.v1.Plans/Tell"

// serveGRPC answers on an address until it is killed.
func serveGRPC(_ context.Context, args []string, _ io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: grpc-serve ADDRESS")
	}
	mux := http.NewServeMux()
	mux.Handle(procedure, connect.NewUnaryHandler(procedure,
		func(_ context.Context, asked *connect.Request[wrapperspb.StringValue]) (*connect.Response[wrapperspb.StringValue], error) {
			return connect.NewResponse(wrapperspb.String(asked.Msg.GetValue() + " at dawn")), nil
		}))
	server := &http.Server{Addr: args[0], Handler: mux, Protocols: h2c(), ReadHeaderTimeout: time.Minute}
	return server.ListenAndServe()
}

// callGRPC calls a server at a URL, twice.
func callGRPC(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: grpc-call URL")
	}
	transport := &http.Transport{Protocols: h2c()}
	defer transport.CloseIdleConnections()
	client := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](
		&http.Client{Transport: transport}, args[0]+procedure, connect.WithGRPC())
	for _, word := range []string{"attack", "retreat"} {
		answer, err := client.CallUnary(ctx, connect.NewRequest(wrapperspb.String(word)))
		if err != nil {
			return fmt.Errorf("grpc-call: %v", err)
		}
		fmt.Fprintln(out, answer.Msg.GetValue())
	}
	return nil
}

func h2c() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// serveHTTPS answers on an address with Go's own TLS until it is killed.
func serveHTTPS(_ context.Context, args []string, _ io.Writer) error {
	if len(args) != 3 {
		return errors.New("usage: https-serve ADDRESS CERTIFICATE KEY")
	}
	server := &http.Server{Addr: args[0], ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "attack at dawn") })}
	return server.ListenAndServeTLS(args[1], args[2])
}

// callHTTPS asks for a page, trusting what SSL_CERT_FILE names.
func callHTTPS(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: https-call URL")
	}
	asked, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return fmt.Errorf("https-call: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	answer, err := client.Do(asked)
	if err != nil {
		return fmt.Errorf("https-call: %v", err)
	}
	defer answer.Body.Close()
	_, err = io.Copy(out, answer.Body)
	return err
}
