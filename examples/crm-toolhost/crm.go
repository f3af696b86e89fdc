package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// crm has the leads of a small company, and the people and bots who sell.
type crm struct {
	mutex  sync.Mutex
	leads  map[string]*lead
	agents map[string]*seller
	// What calls have answered that change something, by their idempotency keys.
	answered map[string]any
	now      time.Time
}

type lead struct {
	ID       string    `json:"lead_id"`
	Company  string    `json:"company"`
	Channel  string    `json:"channel"`
	Stage    string    `json:"stage"`
	AgentID  string    `json:"agent_id"`
	Priority string    `json:"priority"`
	Score    int       `json:"score"`
	Created  time.Time `json:"created"`
}

type seller struct {
	ID       string
	Name     string
	Messages []string
}

var stages = []string{"new", "contacted", "qualified", "proposal", "won", "lost"}

func newCRM(now time.Time) *crm {
	c := &crm{leads: map[string]*lead{}, agents: map[string]*seller{}, answered: map[string]any{}, now: now}
	for _, one := range []*seller{
		{"ana", "Ana Souza", []string{
			"Good morning! Shall we look at the quote together on Tuesday?",
			"I have sent you the comparison that you asked for.",
		}},
		{"bruno", "Bruno Lima", []string{"price is in the pdf", "ok?", "still there?"}},
		{"clara", "Clara Reis", []string{"Thank you for your time today. I will call back by noon with the numbers."}},
	} {
		c.agents[one.ID] = one
	}
	companies := []string{"Aurora", "Boreal", "Cedro", "Delta", "Estela", "Flora"}
	sellers := []string{"ana", "bruno", "clara"}
	channels := []string{"whatsapp", "email", "web"}
	for n := range 48 {
		one := &lead{
			ID:      fmt.Sprintf("lead-%02d", n+1),
			Company: companies[n%len(companies)],
			Channel: channels[n%len(channels)],
			Stage:   stages[(n*5)%len(stages)],
			AgentID: sellers[(n/2)%len(sellers)],
			Created: now.Add(-time.Duration(n*9) * time.Hour),
		}
		c.leads[one.ID] = one
	}
	return c
}

// since is the beginning of a period.
func (c *crm) since(period string) time.Time {
	days := map[string]int{"today": 1, "week": 7, "month": 30}
	if period == "all" {
		return time.Time{}
	}
	return c.now.AddDate(0, 0, -days[period])
}

func (c *crm) count(period, channel, stage string) int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found := 0
	for one := range maps.Values(c.leads) {
		if one.Created.After(c.since(period)) && (channel == "" || one.Channel == channel) && (stage == "" || one.Stage == stage) {
			found++
		}
	}
	return found
}

type conversion struct {
	AgentID string  `json:"agent_id"`
	Name    string  `json:"name"`
	Leads   int     `json:"leads"`
	Won     int     `json:"won"`
	Rate    float64 `json:"conversion_rate"`
}

// conversions are those of one agent, or of all, the best first.
func (c *crm) conversions(agentID, period string) ([]conversion, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if _, known := c.agents[agentID]; agentID != "" && !known {
		return nil, fmt.Errorf("there is no agent %q; there are %v", agentID, slices.Sorted(maps.Keys(c.agents)))
	}
	found := []conversion{}
	for _, one := range c.agents {
		if agentID != "" && one.ID != agentID {
			continue
		}
		stats := conversion{AgentID: one.ID, Name: one.Name}
		for _, lead := range c.leads {
			if lead.AgentID == one.ID && lead.Created.After(c.since(period)) {
				stats.Leads++
				if lead.Stage == "won" {
					stats.Won++
				}
			}
		}
		if stats.Leads > 0 {
			stats.Rate = float64(stats.Won) / float64(stats.Leads)
		}
		found = append(found, stats)
	}
	slices.SortFunc(found, func(a, b conversion) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(a.AgentID, b.AgentID))
	})
	return found, nil
}

// change makes a change once for each idempotency key: a call of a run that is made again gets the answer of the first.
func change[R any](c *crm, key, leadID string, apply func(*lead) (R, error)) (R, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if before, made := c.answered[key].(R); key != "" && made {
		return before, nil
	}
	one, known := c.leads[leadID]
	if !known {
		return *new(R), fmt.Errorf("there is no lead %q", leadID)
	}
	answer, err := apply(one)
	if err == nil && key != "" {
		c.answered[key] = answer
	}
	return answer, err
}
