#!/bin/bash
set -e

echo "Phase 2 Verification Script"
echo "=============================="

# Check Docker
echo "1. Checking Docker..."
docker --version || { echo "❌ Docker not found"; exit 1; }
docker-compose --version || { echo "❌ Docker Compose not found"; exit 1; }

# Check services
echo "2. Checking services..."
docker-compose ps

# Check MLflow
echo "3. Checking MLflow..."
curl -f http://localhost:5000/health || { echo "❌ MLflow unhealthy"; exit 1; }

# Check API
echo "4. Checking API..."
curl -f http://localhost:8000/health || { echo "❌ API unhealthy"; exit 1; }

# Check model info
echo "5. Checking model..."
MODEL_INFO=$(curl -s http://localhost:8000/model/info)
echo "$MODEL_INFO" | jq .
echo "$MODEL_INFO" | jq -e '.model_stage == "Production"' || { echo "❌ Model not in Production"; exit 1; }

# Test prediction
echo "6. Testing prediction..."
PREDICTION=$(curl -s -X POST http://localhost:8000/predict \
  -H "Content-Type: application/json" \
  -d '{
    "RevolvingUtilizationOfUnsecuredLines": 0.766127,
    "age": 45,
    "NumberOfTime30_59DaysPastDueNotWorse": 2,
    "DebtRatio": 0.802982,
    "MonthlyIncome": 9120.0,
    "NumberOfOpenCreditLinesAndLoans": 13,
    "NumberOfTimes90DaysLate": 0,
    "NumberRealEstateLoansOrLines": 6,
    "NumberOfTime60_89DaysPastDueNotWorse": 0,
    "NumberOfDependents": 2
  }')
echo "$PREDICTION" | jq .
echo "$PREDICTION" | jq -e '.prediction != null' || { echo "❌ Prediction failed"; exit 1; }

echo ""
echo "✅ All checks passed!"
echo "=============================="
echo "Phase 2 is working correctly!"
