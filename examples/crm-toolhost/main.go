// Command crm-toolhost is a CRM behind NAT whose data agents may use: it opens a stream to Execution, hosts eight tools on
// it, and finds its way back when the stream is lost. Its data are in memory.
//
//	go run . -execution 127.0.0.1:50054
//
// An agent uses them by naming host/get_leads_count, or all with host/*. SIGTERM lets calls in flight end.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	toolsv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/tools/v1"
	"github.com/dynamic-agents/dynamic-agents/go/toolhost"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

func main() {
	log.SetFlags(0)
	addresses := flag.String("execution", "127.0.0.1:50054", "addresses of Execution, separated by commas; they take turns")
	id := flag.String("id", "", "name of this instance; empty: made of the machine's name")
	delay := flag.Duration("delay", 0, "what each call takes, to try what happens when something is lost meanwhile")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var conns []grpc.ClientConnInterface
	for _, address := range strings.Split(*addresses, ",") {
		conn, err := dial(address)
		if err != nil {
			log.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	host := toolhost.Host{
		ID:     *id,
		Tools:  tools(newCRM(time.Now()), *delay),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		OnRegistered: func(said *toolsv1.HostRegistered) {
			fmt.Println("registered", strings.Join(said.AcceptedTools, " "))
		},
	}
	if err := host.Run(ctx, conns...); err != nil {
		log.Fatal(err)
	}
}

func dial(address string) (*grpc.ClientConn, error) {
	quick := backoff.DefaultConfig
	quick.BaseDelay, quick.MaxDelay = 100*time.Millisecond, 2*time.Second
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: 2 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}),
	)
}
