// Package toolhost lets a backend host tools for agents of dynamic-agents, on a stream that the backend itself opens: no
// agent ever has to reach it.
//
//	count := toolhost.Must(toolhost.New(toolhost.Description{Name: "get_leads_count", ReadOnly: true},
//		func(ctx context.Context, asked Period) (Count, error) { ... }))
//	host := toolhost.Host{ID: "crm-1", Tools: []toolhost.Tool{count}}
//	err := host.Run(ctx, conn)
//
// Credentials belong to the connection (grpc.WithPerRPCCredentials).
package toolhost

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	toolsv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/tools/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	defaultConcurrency = 16
	defaultDrain       = 30 * time.Second
	firstPause         = 100 * time.Millisecond
	longestPause       = 10 * time.Second
	steady             = 5 * time.Second
)

// ErrRejected is returned where the server took none, or not all, of the tools.
var ErrRejected = errors.New("toolhost: tools were rejected")

// Host is a backend with tools. Its fields are not changed once it runs.
type Host struct {
	// Name of this instance, the same whenever it connects again, and no other's. Empty: made of the machine's name.
	ID string
	// What it does.
	Tools []Tool
	// Calls at once. 0: 16.
	MaxConcurrency int
	// How long calls in flight may go on when the context of Run ends. 0: 30 s.
	DrainTimeout time.Duration
	// Takes tools that the server rejects as missing, rather than to end.
	AllowRejected bool
	// Where it says what happens. Nil: slog.Default().
	Logger *slog.Logger
	// Told whenever the tools are registered; may be nil.
	OnRegistered func(*toolsv1.HostRegistered)
}

// Run hosts the tools until ctx ends: then it takes no more calls, finishes those in flight, and returns nil. A stream that
// is lost is opened again, after pauses of up to 10 s; where there are several connections, they take turns. What another
// attempt cannot mend is returned as an error: credentials, a registration that breaks a rule, another instance of this name.
func (h *Host) Run(ctx context.Context, conns ...grpc.ClientConnInterface) error {
	if len(conns) == 0 {
		return errors.New("toolhost: no connection")
	}
	runner := &runner{Host: *h, room: make(chan struct{}, orElse(h.MaxConcurrency, defaultConcurrency))}
	runner.MaxConcurrency = cap(runner.room)
	runner.DrainTimeout = orElse(h.DrainTimeout, defaultDrain)
	if runner.ID == "" {
		runner.ID = madeName()
	}
	if runner.Logger == nil {
		runner.Logger = slog.Default()
	}
	runner.Logger = runner.Logger.With("host_id", runner.ID)
	defer runner.streams.Wait()
	return runner.run(ctx, conns)
}

type runner struct {
	Host
	room    chan struct{}
	streams sync.WaitGroup
}

func (r *runner) run(ctx context.Context, conns []grpc.ClientConnInterface) error {
	pause := firstPause
	for turn := 0; ; turn++ {
		opened := time.Now()
		s := newStream(r)
		r.streams.Add(1)
		go func() {
			defer r.streams.Done()
			s.serve(ctx, conns[turn%len(conns)])
		}()
		select {
		case <-s.moving: // it answers what is in flight, while the next one takes what is new
			r.Logger.Info("the server is stopping")
			pause = firstPause
		case <-s.over:
			if ctx.Err() != nil {
				return nil
			}
			if isFinal(s.err) {
				return s.err
			}
			r.Logger.Warn("stream lost", "error", s.err)
		}
		if time.Since(opened) > steady {
			pause = firstPause
		}
		select {
		case <-time.After(pause/2 + mathrand.N(pause)):
		case <-ctx.Done():
			<-s.over
			return nil
		}
		pause = min(2*pause, longestPause)
	}
}

// isFinal tells whether another attempt would end in the same way.
func isFinal(err error) bool {
	if errors.Is(err, ErrRejected) {
		return true
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return true
	case codes.Aborted:
		return reason(err) == "HOST_REPLACED"
	}
	return false
}

func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

func madeName() string {
	machine, _ := os.Hostname()
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(machine), "-"), "-")
	return strings.Trim(fmt.Sprintf("%.40s-%s", name, hex.EncodeToString(random)), "-")
}

func orElse[T comparable](value, otherwise T) T {
	if value == *new(T) {
		return otherwise
	}
	return value
}
