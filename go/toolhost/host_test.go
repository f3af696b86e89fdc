package toolhost_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	toolsv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/tools/v1"
	"github.com/dynamic-agents/dynamic-agents/go/toolhost"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

const soon = 20 * time.Second

type stream = toolsv1.ToolService_HostToolsServer

// server gives each stream of a host to the test.
type server struct {
	toolsv1.UnimplementedToolServiceServer
	streams chan *opened
}

type opened struct {
	stream
	registration *toolsv1.HostRegistration
	said         chan *toolsv1.HostToolsRequest
	end          chan error
}

func (s *server) HostTools(on stream) error {
	first, err := on.Recv()
	if err != nil {
		return err
	}
	o := &opened{on, first.GetRegister(), make(chan *toolsv1.HostToolsRequest, 100), make(chan error, 1)}
	s.streams <- o
	go func() {
		defer close(o.said)
		for {
			said, err := on.Recv()
			if err != nil {
				return
			}
			o.said <- said
		}
	}()
	select {
	case err := <-o.end:
		return err
	case <-on.Context().Done():
		return on.Context().Err()
	}
}

// next is what the host says, its heartbeats apart.
func (o *opened) next(t *testing.T) *toolsv1.HostToolsRequest {
	t.Helper()
	for {
		select {
		case said, open := <-o.said:
			if !open {
				t.Fatal("the stream has ended")
			}
			if said.GetHeartbeat() == nil {
				return said
			}
		case <-time.After(soon):
			t.Fatal("the host says nothing")
		}
	}
}

func (o *opened) registered(t *testing.T) {
	t.Helper()
	said := &toolsv1.HostRegistered{
		HostId: o.registration.HostId, HeartbeatInterval: durationpb.New(time.Minute), MaxMessageBytes: 4096,
	}
	if err := o.Send(&toolsv1.HostToolsResponse{Message: &toolsv1.HostToolsResponse_Registered{Registered: said}}); err != nil {
		t.Fatal(err)
	}
}

func (o *opened) call(t *testing.T, id, tool string, arguments map[string]any) {
	t.Helper()
	given, err := structpb.NewStruct(arguments)
	if err != nil {
		t.Fatal(err)
	}
	call := &toolsv1.HostCall{
		CallId: id, Tool: tool, Arguments: given, Timeout: durationpb.New(time.Minute),
		IdempotencyKey: "key-" + id, ExecutionId: "run", UserId: "ann",
	}
	if err := o.Send(&toolsv1.HostToolsResponse{Message: &toolsv1.HostToolsResponse_Call{Call: call}}); err != nil {
		t.Fatal(err)
	}
}

func (o *opened) result(t *testing.T) *toolsv1.HostCallResult {
	t.Helper()
	said := o.next(t)
	if said.GetResult() == nil {
		t.Fatalf("not a result: %v", said)
	}
	return said.GetResult()
}

func serve(t *testing.T) (*server, *grpc.ClientConn) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	made := &server{streams: make(chan *opened, 10)}
	grpcServer := grpc.NewServer()
	toolsv1.RegisterToolServiceServer(grpcServer, made)
	go func() { _ = grpcServer.Serve(listener) }()
	t.Cleanup(grpcServer.Stop)
	conn, err := grpc.NewClient("passthrough:///host",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return made, conn
}

func (s *server) opened(t *testing.T) *opened {
	t.Helper()
	select {
	case o := <-s.streams:
		return o
	case <-time.After(soon):
		t.Fatal("no stream was opened")
		return nil
	}
}

// run starts the host; the test's end stops it.
func run(t *testing.T, host toolhost.Host, conns ...grpc.ClientConnInterface) (stop func(), ended <-chan error) {
	t.Helper()
	host.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- host.Run(ctx, conns...) }()
	return cancel, done
}

func wait(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(soon):
		t.Fatal("Run does not return")
		return nil
	}
}

type asked struct {
	Text string `json:"text" jsonschema:"what to say"`
	Loud bool   `json:"loud,omitempty"`
}

type answer struct {
	Text string `json:"text"`
	User string `json:"user"`
}

func say(_ context.Context, a asked) (string, error) {
	if a.Text == "" {
		return "", errors.New("say what?")
	}
	return a.Text, nil
}

func tool[A, R any](t *testing.T, name string, handle func(context.Context, A) (R, error)) toolhost.Tool {
	t.Helper()
	made, err := toolhost.New(toolhost.Description{Name: name, ReadOnly: true}, handle)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestCallsAreMade(t *testing.T) {
	s, conn := serve(t)
	who := tool(t, "who", func(ctx context.Context, a asked) (answer, error) {
		toolhost.Progress(ctx, 1, 2, "half")
		return answer{a.Text, toolhost.CallOf(ctx).UserID + " " + toolhost.CallOf(ctx).IdempotencyKey}, nil
	})
	broken := tool(t, "broken", func(context.Context, struct{}) (string, error) { panic("a secret") })
	huge := tool(t, "huge", func(context.Context, struct{}) (string, error) { return strings.Repeat("x", 5000), nil })
	run(t, toolhost.Host{ID: "crm-1", Tools: []toolhost.Tool{tool(t, "say", say), who, broken, huge}}, conn)
	o := s.opened(t)
	if o.registration.HostId != "crm-1" || o.registration.MaxConcurrency != 16 || len(o.registration.Tools) != 4 {
		t.Fatalf("registered %v", o.registration)
	}
	first := o.registration.Tools[0]
	properties := first.InputSchema.Fields["properties"].GetStructValue().Fields
	if first.InputSchema.Fields["type"].GetStringValue() != "object" || properties["text"] == nil || properties["loud"] == nil {
		t.Fatalf("input schema %v", first.InputSchema)
	}
	if first.OutputSchema != nil || o.registration.Tools[1].OutputSchema == nil || !first.Annotations.ReadOnly {
		t.Fatalf("tools %v", o.registration.Tools)
	}
	o.registered(t)

	o.call(t, "1", "say", map[string]any{"text": "hello"})
	if said := o.result(t); said.CallId != "1" || said.Output != "hello" || said.IsError {
		t.Fatalf("said %v", said)
	}
	o.call(t, "2", "say", nil)
	if said := o.result(t); said.Output != "say what?" || !said.IsError {
		t.Fatalf("said %v", said)
	}
	o.call(t, "3", "who", map[string]any{"text": "x"})
	if told := o.next(t).GetProgress(); told.GetProgress() != 1 || told.GetTotal() != 2 || told.GetMessage() != "half" {
		t.Fatalf("told %v", told)
	}
	fields := o.result(t).StructuredOutput.GetStructValue().Fields
	if fields["text"].GetStringValue() != "x" || fields["user"].GetStringValue() != "ann key-3" {
		t.Fatalf("said %v", fields)
	}
	o.call(t, "4", "broken", nil)
	if said := o.result(t); said.Output != "the tool failed" || !said.IsError {
		t.Fatalf("said %v", said)
	}
	o.call(t, "5", "huge", nil)
	if said := o.result(t); !said.IsError || !strings.Contains(said.Output, "bytes") {
		t.Fatalf("said %v", said)
	}
	o.call(t, "6", "none", nil)
	if said := o.result(t); !said.IsError {
		t.Fatalf("said %v", said)
	}
}

func TestNoMoreCallsAtOnceThanItSaid(t *testing.T) {
	s, conn := serve(t)
	var now, most atomic.Int32
	begun, goOn := make(chan struct{}, 10), make(chan struct{})
	slow := tool(t, "slow", func(context.Context, struct{}) (string, error) {
		if at := now.Add(1); at > most.Load() {
			most.Store(at)
		}
		begun <- struct{}{}
		<-goOn
		now.Add(-1)
		return "", nil
	})
	run(t, toolhost.Host{Tools: []toolhost.Tool{slow}, MaxConcurrency: 2}, conn)
	o := s.opened(t)
	o.registered(t)
	for _, id := range []string{"1", "2", "3", "4", "5"} {
		o.call(t, id, "slow", nil)
	}
	<-begun
	<-begun
	close(goOn)
	for range 5 {
		o.result(t)
	}
	if most.Load() != 2 {
		t.Fatalf("%d calls at once", most.Load())
	}
}

func TestCancelEndsTheContextOfTheCall(t *testing.T) {
	s, conn := serve(t)
	begun, ended := make(chan struct{}), make(chan struct{})
	slow := tool(t, "slow", func(ctx context.Context, _ struct{}) (string, error) {
		close(begun)
		<-ctx.Done()
		close(ended)
		return "", ctx.Err()
	})
	run(t, toolhost.Host{Tools: []toolhost.Tool{slow, tool(t, "say", say)}}, conn)
	o := s.opened(t)
	o.registered(t)
	o.call(t, "1", "slow", nil)
	<-begun
	cancel := &toolsv1.HostCancel{CallId: "1"}
	if err := o.Send(&toolsv1.HostToolsResponse{Message: &toolsv1.HostToolsResponse_Cancel{Cancel: cancel}}); err != nil {
		t.Fatal(err)
	}
	<-ended
	o.call(t, "2", "say", map[string]any{"text": "hello"})
	if said := o.result(t); said.CallId != "2" {
		t.Fatalf("said %v", said)
	}
}

func TestALostStreamIsOpenedAgain(t *testing.T) {
	s, conn := serve(t)
	other, otherConn := serve(t)
	var cause error
	begun, ended := make(chan struct{}), make(chan struct{})
	slow := tool(t, "slow", func(ctx context.Context, _ struct{}) (string, error) {
		close(begun)
		<-ctx.Done()
		cause = context.Cause(ctx)
		close(ended)
		return "", nil
	})
	run(t, toolhost.Host{Tools: []toolhost.Tool{slow, tool(t, "say", say)}}, conn, otherConn)
	o := s.opened(t)
	o.registered(t)
	o.call(t, "1", "slow", nil)
	<-begun
	o.end <- status.Error(codes.Unavailable, "gone")
	<-ended
	if cause == nil || !strings.Contains(cause.Error(), "lost") {
		t.Fatalf("cause %v", cause)
	}
	again := other.opened(t)
	if again.registration.HostId != o.registration.HostId {
		t.Fatalf("%q is not %q", again.registration.HostId, o.registration.HostId)
	}
	again.registered(t)
	again.call(t, "2", "say", map[string]any{"text": "hello"})
	if said := again.result(t); said.Output != "hello" {
		t.Fatalf("said %v", said)
	}
	again.end <- status.Error(codes.Internal, "no idea")
	s.opened(t)
}

func TestAServerThatStopsIsLeftWithoutLosingACall(t *testing.T) {
	s, conn := serve(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	slow := tool(t, "slow", func(ctx context.Context, _ struct{}) (string, error) {
		close(begun)
		<-goOn
		return "the last", ctx.Err()
	})
	run(t, toolhost.Host{Tools: []toolhost.Tool{slow, tool(t, "say", say)}}, conn)
	o := s.opened(t)
	o.registered(t)
	o.call(t, "1", "slow", nil)
	<-begun
	draining := &toolsv1.HostToolsResponse_Draining{Draining: &toolsv1.HostServerDraining{}}
	if err := o.Send(&toolsv1.HostToolsResponse{Message: draining}); err != nil {
		t.Fatal(err)
	}
	again := s.opened(t)
	again.registered(t)
	again.call(t, "2", "say", map[string]any{"text": "hello"})
	if said := again.result(t); said.Output != "hello" {
		t.Fatalf("said %v", said)
	}
	close(goOn)
	if said := o.result(t); said.Output != "the last" {
		t.Fatalf("said %v", said)
	}
}

func TestTheEndOfTheContextDrains(t *testing.T) {
	s, conn := serve(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	slow := tool(t, "slow", func(ctx context.Context, _ struct{}) (string, error) {
		close(begun)
		<-goOn
		return "the last", ctx.Err()
	})
	stop, ended := run(t, toolhost.Host{Tools: []toolhost.Tool{slow}}, conn)
	o := s.opened(t)
	o.registered(t)
	o.call(t, "1", "slow", nil)
	<-begun
	stop()
	if o.next(t).GetDrain() == nil {
		t.Fatal("no drain")
	}
	close(goOn)
	if said := o.result(t); said.Output != "the last" || said.IsError {
		t.Fatalf("said %v", said)
	}
	o.end <- nil
	if err := wait(t, ended); err != nil {
		t.Fatal(err)
	}
}

func TestACallThatDoesNotEndIsGivenUpWhenTheDrainIsOver(t *testing.T) {
	s, conn := serve(t)
	begun := make(chan struct{})
	slow := tool(t, "slow", func(ctx context.Context, _ struct{}) (string, error) {
		close(begun)
		<-ctx.Done()
		return "", ctx.Err()
	})
	stop, ended := run(t, toolhost.Host{Tools: []toolhost.Tool{slow}, DrainTimeout: 50 * time.Millisecond}, conn)
	o := s.opened(t)
	o.registered(t)
	o.call(t, "1", "slow", nil)
	<-begun
	stop()
	if err := wait(t, ended); err != nil {
		t.Fatal(err)
	}
}

func TestWhatAnotherAttemptCannotMend(t *testing.T) {
	replaced, err := status.New(codes.Aborted, "replaced").WithDetails(&errdetails.ErrorInfo{Reason: "HOST_REPLACED"})
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []error{
		status.Error(codes.InvalidArgument, "register.tools: too many"),
		status.Error(codes.Unauthenticated, "who?"),
		status.Error(codes.PermissionDenied, "no"),
		replaced.Err(),
	} {
		s, conn := serve(t)
		_, ended := run(t, toolhost.Host{Tools: []toolhost.Tool{tool(t, "say", say)}}, conn)
		s.opened(t).end <- end
		if err := wait(t, ended); status.Code(err) != status.Code(end) {
			t.Fatalf("%v, not %v", err, end)
		}
	}
}

func TestRejectedToolsEndIt(t *testing.T) {
	s, conn := serve(t)
	_, ended := run(t, toolhost.Host{Tools: []toolhost.Tool{tool(t, "say", say)}}, conn)
	rejected := &toolsv1.HostRegistered{RejectedTools: []*toolsv1.RejectedTool{{Name: "say", Reason: "is bad"}}}
	said := &toolsv1.HostToolsResponse{Message: &toolsv1.HostToolsResponse_Registered{Registered: rejected}}
	if err := s.opened(t).Send(said); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, ended); !errors.Is(err, toolhost.ErrRejected) {
		t.Fatal(err)
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	s, conn := serve(t)
	run(t, toolhost.Host{Tools: []toolhost.Tool{tool(t, "say", say)}, MaxConcurrency: 50}, conn)
	o := s.opened(t)
	o.registered(t)
	go func() {
		for n := range 500 {
			o.call(t, strconv.Itoa(n), "say", map[string]any{"text": "hello"})
		}
	}()
	for range 500 {
		if said := o.result(t); said.Output != "hello" {
			t.Fatalf("said %v", said)
		}
	}
}
