// Command provider is a Go backend whose functions are tools of agents. On one port it serves ToolProviderService, for
// who has the token; on another a service of its own, with nothing but server reflection. It prints both addresses.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"sync"

	toolsv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/tools/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"example.com/provider/crm"
)

//go:generate protoc -Icrm --go_out=crm --go_opt=paths=source_relative --go-grpc_out=crm --go-grpc_opt=paths=source_relative crm/crm.proto

var leads = map[string]int64{"NEW": 7, "WON": 3}

func main() {
	log.SetFlags(0)
	token := flag.String("token", "", "bearer token that callers of the tools must show")
	flag.Parse()

	tools := grpc.NewServer()
	toolsv1.RegisterToolProviderServiceServer(tools, &provider{token: *token, seen: map[string]*toolsv1.ExecuteToolResponse{}})
	plain := grpc.NewServer()
	crm.RegisterLeadServiceServer(plain, leadService{})
	reflection.Register(plain)
	go serve(plain)
	serve(tools)
}

func serve(server *grpc.Server) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	kind := "tools"
	if _, ok := server.GetServiceInfo()["crm.v1.LeadService"]; ok {
		kind = "leads"
	}
	fmt.Printf("%s %s\n", kind, listener.Addr())
	log.Fatal(server.Serve(listener))
}

type provider struct {
	toolsv1.UnimplementedToolProviderServiceServer
	token string
	mu    sync.Mutex
	seen  map[string]*toolsv1.ExecuteToolResponse
}

func (p *provider) ListTools(ctx context.Context, _ *toolsv1.ToolProviderServiceListToolsRequest) (*toolsv1.ToolProviderServiceListToolsResponse, error) {
	if err := p.admit(ctx); err != nil {
		return nil, err
	}
	return &toolsv1.ToolProviderServiceListToolsResponse{
		Ttl: durationpb.New(60e9),
		Tools: []*toolsv1.ProvidedTool{
			{
				Name:        "get_leads_count",
				Description: "Counts the leads of a status: NEW or WON.",
				InputSchema: object(map[string]any{"status": map[string]any{"type": "string", "enum": []any{"NEW", "WON"}}}),
				Annotations: &toolsv1.ToolAnnotations{ReadOnly: true},
			},
			{
				Name:                "create_lead",
				Description:         "Makes a lead.",
				InputSchema:         object(map[string]any{"status": map[string]any{"type": "string"}}),
				TakesIdempotencyKey: true,
			},
		},
	}, nil
}

func (p *provider) ExecuteTool(ctx context.Context, request *toolsv1.ExecuteToolRequest) (*toolsv1.ExecuteToolResponse, error) {
	if err := p.admit(ctx); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.seen[request.IdempotencyKey]; ok && request.IdempotencyKey != "" {
		return known, nil
	}
	of := request.Arguments.GetFields()["status"].GetStringValue()
	switch request.ToolName {
	case "create_lead":
		leads[of]++
	case "get_leads_count":
	default:
		return nil, status.Errorf(codes.NotFound, "no tool %q", request.ToolName)
	}
	value, err := structpb.NewValue(map[string]any{"count": leads[of]})
	if err != nil {
		return nil, err
	}
	response := &toolsv1.ExecuteToolResponse{Result: &toolsv1.ExecuteToolResponse_Structured{Structured: value}}
	p.seen[request.IdempotencyKey] = response
	return response, nil
}

func (p *provider) admit(ctx context.Context) error {
	given := metadata.ValueFromIncomingContext(ctx, "authorization")
	if p.token != "" && (len(given) != 1 || given[0] != "Bearer "+p.token) {
		return status.Error(codes.Unauthenticated, "a token is wanted")
	}
	return nil
}

func object(properties map[string]any) *structpb.Struct {
	schema, err := structpb.NewStruct(map[string]any{"type": "object", "properties": properties, "required": []any{"status"}})
	if err != nil {
		log.Fatal(err)
	}
	return schema
}

type leadService struct {
	crm.UnimplementedLeadServiceServer
}

func (leadService) CountLeads(_ context.Context, request *crm.CountLeadsRequest) (*crm.CountLeadsResponse, error) {
	if request.Status == crm.Status_STATUS_UNSPECIFIED {
		return &crm.CountLeadsResponse{Count: 10}, nil
	}
	return &crm.CountLeadsResponse{Count: map[crm.Status]int64{crm.Status_STATUS_NEW: 7, crm.Status_STATUS_WON: 3}[request.Status]}, nil
}
