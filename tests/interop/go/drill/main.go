// Command drill streams runs from processes that are killed meanwhile: whenever a stream breaks it goes on at the other
// process, from the last event that it has. It prints what it has read of each run as a line of JSON.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	executionv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/execution/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	attempts = 1000
	pause    = 50 * time.Millisecond
	stagger  = 120 * time.Millisecond
)

// run is what the client has of one execution.
type run struct {
	Lines  []string `json:"events"`
	Breaks int      `json:"breaks"`
	Waited float64  `json:"waited"`

	executionID string
	sequence    int64
	ended       bool
	brokenAt    time.Time
}

func main() {
	log.SetFlags(0)
	addresses := flag.String("addresses", "127.0.0.1:50054", "addresses of Execution, separated by commas")
	name := flag.String("name", "drill", "prefix of the requests' ids")
	runs := flag.Int("runs", 1, "runs at once")
	flag.Parse()

	var clients []executionv1.ExecutionServiceClient
	for _, address := range strings.Split(*addresses, ",") {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			log.Fatal(err)
		}
		defer conn.Close()
		clients = append(clients, executionv1.NewExecutionServiceClient(conn))
	}

	read := make([]run, *runs)
	failed := make([]error, *runs)
	var all sync.WaitGroup
	for n := range read {
		all.Go(func() {
			time.Sleep(time.Duration(n) * stagger)
			failed[n] = read[n].stream(clients, fmt.Sprintf("%s-%d", *name, n))
		})
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		log.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	for n := range read {
		if err := out.Encode(&read[n]); err != nil {
			log.Fatal(err)
		}
	}
}

func (r *run) stream(clients []executionv1.ExecutionServiceClient, requestID string) error {
	for attempt := range attempts {
		err := r.follow(clients[attempt%len(clients)], requestID)
		if r.ended {
			return nil
		}
		if err != nil && status.Code(err) != codes.Unavailable {
			return fmt.Errorf("%s after %d: %w", requestID, r.sequence, err)
		}
		r.Breaks++
		if r.brokenAt.IsZero() {
			r.brokenAt = time.Now()
		}
		time.Sleep(pause)
	}
	return fmt.Errorf("%s has no end after %d", requestID, r.sequence)
}

// follow reads a run from its start, or from the last event that the client has.
func (r *run) follow(client executionv1.ExecutionServiceClient, requestID string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if r.executionID == "" {
		request := &executionv1.ExecuteRequest{
			Target:    &executionv1.ExecuteRequest_AgentId{AgentId: "helper"},
			Input:     "go",
			RequestId: requestID,
		}
		stream, err := client.ExecuteStream(ctx, request)
		if err != nil {
			return err
		}
		return r.read(stream.Recv)
	}
	request := &executionv1.WatchExecutionRequest{ExecutionId: r.executionID, AfterSequence: r.sequence}
	stream, err := client.WatchExecution(ctx, request)
	if err != nil {
		return err
	}
	return r.read(func() (*executionv1.ExecuteEvent, error) {
		reply, err := stream.Recv()
		return reply.GetEvent(), err
	})
}

func (r *run) read(next func() (*executionv1.ExecuteEvent, error)) error {
	for {
		event, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if event.GetHeartbeat() != nil {
			continue
		}
		if err := r.add(event); err != nil {
			return err
		}
	}
}

func (r *run) add(event *executionv1.ExecuteEvent) error {
	if !r.brokenAt.IsZero() {
		r.Waited, r.brokenAt = time.Since(r.brokenAt).Seconds(), time.Time{}
	}
	bytes, err := proto.Marshal(event)
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, base64.StdEncoding.EncodeToString(bytes))
	r.executionID, r.sequence = event.ExecutionId, event.Sequence
	switch event.Event.(type) {
	case *executionv1.ExecuteEvent_ExecutionCompleted,
		*executionv1.ExecuteEvent_ExecutionFailed,
		*executionv1.ExecuteEvent_ExecutionCancelled:
		r.ended = true
	}
	return nil
}
