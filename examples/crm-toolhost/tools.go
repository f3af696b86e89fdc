package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dynamic-agents/dynamic-agents/go/toolhost"
)

type countAsked struct {
	Period  string `json:"period" jsonschema:"today, week, month or all"`
	Channel string `json:"channel,omitempty" jsonschema:"only leads of this channel: whatsapp, email or web"`
	Stage   string `json:"stage,omitempty" jsonschema:"only leads of this stage of the pipeline"`
}

type count struct {
	Count int `json:"count"`
}

type statsAsked struct {
	AgentID string `json:"agent_id,omitempty" jsonschema:"empty: all agents"`
	Period  string `json:"period" jsonschema:"today, week, month or all"`
}

type stats struct {
	Agents []conversion `json:"agents"`
}

type topAsked struct {
	Period   string `json:"period" jsonschema:"today, week, month or all"`
	MinLeads int    `json:"min_leads,omitempty" jsonschema:"agents with fewer leads do not count"`
}

type messagesAsked struct {
	AgentID string `json:"agent_id"`
	Sample  int    `json:"sample_size,omitempty" jsonschema:"messages to look at; 0: all"`
}

type analysis struct {
	AgentID       string  `json:"agent_id"`
	Messages      int     `json:"messages"`
	AverageLength float64 `json:"average_length"`
	Questions     int     `json:"questions"`
	Polite        float64 `json:"polite_share"`
}

type compareAsked struct {
	AgentIDs []string `json:"agent_ids" jsonschema:"two or more"`
	Period   string   `json:"period" jsonschema:"today, week, month or all"`
}

type comparison struct {
	Best   string       `json:"best"`
	Agents []conversion `json:"agents"`
}

type qualifyAsked struct {
	LeadID    string `json:"lead_id"`
	Budget    bool   `json:"budget" jsonschema:"the lead can pay"`
	Authority bool   `json:"authority" jsonschema:"we talk to whoever decides"`
	Need      bool   `json:"need" jsonschema:"there is a problem that we solve"`
	Timeline  bool   `json:"timeline" jsonschema:"it is to be solved soon"`
}

type stageAsked struct {
	LeadID string `json:"lead_id"`
	Stage  string `json:"stage" jsonschema:"new, contacted, qualified, proposal, won or lost"`
}

type assignAsked struct {
	LeadID   string `json:"lead_id"`
	AgentID  string `json:"agent_id"`
	Priority string `json:"priority,omitempty" jsonschema:"low, normal or high"`
}

func tools(c *crm, delay time.Duration) []toolhost.Tool {
	reads := func(name, title, text string) toolhost.Description {
		return toolhost.Description{Name: name, Title: title, Text: text, ReadOnly: true}
	}
	return []toolhost.Tool{
		made(delay, reads("get_leads_count", "Number of leads", "Counts the leads of a period."),
			func(_ context.Context, a countAsked) (count, error) {
				return count{c.count(a.Period, a.Channel, a.Stage)}, inPeriods(a.Period)
			}),
		made(delay, reads("get_agent_conversion_stats", "Conversion by agent", "Leads, deals won and conversion rate of agents."),
			func(_ context.Context, a statsAsked) (stats, error) {
				found, err := c.conversions(a.AgentID, a.Period)
				return stats{found}, firstOf(inPeriods(a.Period), err)
			}),
		made(delay, reads("get_top_performing_agent", "Best agent", "The agent who converts most."),
			func(_ context.Context, a topAsked) (conversion, error) {
				found, err := c.conversions("", a.Period)
				found = slices.DeleteFunc(found, func(one conversion) bool { return one.Leads < a.MinLeads })
				if len(found) == 0 {
					return conversion{}, fmt.Errorf("no agent has %d leads", a.MinLeads)
				}
				return found[0], firstOf(inPeriods(a.Period), err)
			}),
		made(delay, reads("analyze_agent_messages", "Look at an agent's messages", "How an agent writes: length, questions, politeness."),
			func(ctx context.Context, a messagesAsked) (analysis, error) { return c.analyze(ctx, a) }),
		made(delay, reads("compare_agents", "Compare agents", "Conversion of some agents side by side."),
			func(_ context.Context, a compareAsked) (comparison, error) { return c.compare(a) }),
		made(delay, toolhost.Description{
			Name: "qualify_lead", Title: "Qualify a lead", Idempotent: true,
			Text: "Scores a lead by budget, authority, need and timeline, and moves it on where it is good.",
		}, func(ctx context.Context, a qualifyAsked) (lead, error) { return c.qualify(ctx, a) }),
		made(delay, toolhost.Description{
			Name: "update_pipeline_stage", Title: "Move a lead", Idempotent: true, Text: "Moves a lead to a stage of the pipeline.",
		}, func(ctx context.Context, a stageAsked) (lead, error) {
			if !slices.Contains(stages, a.Stage) {
				return lead{}, fmt.Errorf("the stage is none of %s", strings.Join(stages, ", "))
			}
			return change(c, toolhost.CallOf(ctx).IdempotencyKey, a.LeadID, func(one *lead) (lead, error) {
				one.Stage = a.Stage
				return *one, nil
			})
		}),
		// The agent is told of each assignment, so that a second one is not the same as none.
		made(delay, toolhost.Description{
			Name: "assign_to_agent", Title: "Assign a lead", Text: "Gives a lead to an agent, who is told of it.",
		}, func(ctx context.Context, a assignAsked) (lead, error) { return c.assign(ctx, a) }),
	}
}

// made is a tool that takes its time.
func made[A, R any](delay time.Duration, is toolhost.Description, do func(context.Context, A) (R, error)) toolhost.Tool {
	return toolhost.Must(toolhost.New(is, func(ctx context.Context, asked A) (R, error) {
		call := toolhost.CallOf(ctx)
		fmt.Println("call", is.Name, call.ID, call.IdempotencyKey)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			fmt.Println("cancelled", is.Name, call.ID)
			return *new(R), context.Cause(ctx)
		}
		return do(ctx, asked)
	}))
}

func inPeriods(period string) error {
	if slices.Contains([]string{"today", "week", "month", "all"}, period) {
		return nil
	}
	return fmt.Errorf("the period is none of today, week, month, all")
}

func firstOf(found ...error) error {
	for _, err := range found {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *crm) analyze(ctx context.Context, asked messagesAsked) (analysis, error) {
	one, known := c.agents[asked.AgentID]
	if !known {
		return analysis{}, fmt.Errorf("there is no agent %q", asked.AgentID)
	}
	messages := one.Messages
	if asked.Sample > 0 && asked.Sample < len(messages) {
		messages = messages[:asked.Sample]
	}
	found := analysis{AgentID: one.ID, Messages: len(messages)}
	for n, text := range messages {
		found.AverageLength += float64(len(text)) / float64(len(messages))
		found.Questions += strings.Count(text, "?")
		if strings.Contains(strings.ToLower(text), "thank") || strings.Contains(text, "Good ") {
			found.Polite += 1 / float64(len(messages))
		}
		toolhost.Progress(ctx, float64(n+1), float64(len(messages)), "reading")
	}
	return found, nil
}

func (c *crm) compare(asked compareAsked) (comparison, error) {
	if len(asked.AgentIDs) < 2 {
		return comparison{}, fmt.Errorf("two agents at least are needed")
	}
	all, err := c.conversions("", asked.Period)
	found := slices.DeleteFunc(all, func(one conversion) bool { return !slices.Contains(asked.AgentIDs, one.AgentID) })
	if len(found) < 2 {
		return comparison{}, fmt.Errorf("fewer than two of these agents exist")
	}
	return comparison{found[0].AgentID, found}, firstOf(inPeriods(asked.Period), err)
}

func (c *crm) qualify(ctx context.Context, asked qualifyAsked) (lead, error) {
	return change(c, toolhost.CallOf(ctx).IdempotencyKey, asked.LeadID, func(one *lead) (lead, error) {
		one.Score = 0
		for _, holds := range []bool{asked.Budget, asked.Authority, asked.Need, asked.Timeline} {
			if holds {
				one.Score += 25
			}
		}
		if one.Score >= 75 {
			one.Stage = "qualified"
		}
		return *one, nil
	})
}

func (c *crm) assign(ctx context.Context, asked assignAsked) (lead, error) {
	if _, known := c.agents[asked.AgentID]; !known {
		return lead{}, fmt.Errorf("there is no agent %q", asked.AgentID)
	}
	return change(c, toolhost.CallOf(ctx).IdempotencyKey, asked.LeadID, func(one *lead) (lead, error) {
		one.AgentID, one.Priority = asked.AgentID, asked.Priority
		return *one, nil
	})
}
